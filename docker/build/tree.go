package main

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// tree is the content of the kit: slash-separated path -> what is there.
// Folders stand in it only if they are empty or have a mode of their own.
type tree map[string]entry

type entry struct {
	mode fs.FileMode
	data []byte
}

func (t tree) addFrom(from, to string, mode fs.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	t[to] = entry{mode: mode, data: data}
	return nil
}

// privateKey matches what no file of a kit may hold. A program may hold the
// words of the first line, therefore some base64 must follow.
var privateKey = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----\r?\n(?:[A-Za-z-]+: .*\r?\n|\r?\n)*[A-Za-z0-9+/]{16}`)

// refusePrivateKeys looks through every byte that goes into the kit, for any
// private key in PEM and for the development keys below dev in every form.
func (t tree) refusePrivateKeys(dev string) error {
	secrets := map[string][]byte{} // what it is -> its bytes
	names, err := filepath.Glob(filepath.Join(dev, "private", "*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		block, _ := pem.Decode(text)
		if block == nil || len(block.Bytes) < 32 {
			continue
		}
		// The last 32 bytes of an Ed25519 key in PKCS#8 are the secret itself.
		secrets[name] = block.Bytes[len(block.Bytes)-32:]
		secrets[name+" in base64"] = []byte(base64.StdEncoding.EncodeToString(block.Bytes))
	}
	for name, e := range t {
		if privateKey.Match(e.data) {
			return fmt.Errorf("%s holds a private key: it must never be part of a kit", name)
		}
		for what, secret := range secrets {
			if bytes.Contains(e.data, secret) {
				return fmt.Errorf("%s holds %s: it must never be part of a kit", name, what)
			}
		}
	}
	return nil
}

// writeTo makes dir hold exactly t and returns the number of files it had to
// write or remove. Files that are right are not touched.
func (t tree) writeTo(dir string) (changed int, err error) {
	wanted := map[string]bool{".": true} // t and all folders above its entries
	for name := range t {
		for ; name != "."; name = path.Dir(name) {
			wanted[name] = true
		}
	}
	err = filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, at)
		if err != nil || wanted[filepath.ToSlash(name)] {
			return err
		}
		changed++
		if err := os.RemoveAll(at); err != nil || !d.IsDir() {
			return err
		}
		return fs.SkipDir
	})
	if err != nil {
		return changed, err
	}
	for _, name := range slices.Sorted(maps.Keys(t)) {
		wrote, err := t[name].writeTo(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return changed, err
		}
		if wrote {
			changed++
		}
	}
	return changed, nil
}

func (e entry) writeTo(at string) (wrote bool, err error) {
	info, err := os.Lstat(at)
	switch {
	case err == nil && info.Mode() == e.mode && e.mode.IsDir():
		return false, nil
	case err == nil && info.Mode() == e.mode && info.Size() == int64(len(e.data)):
		if old, err := os.ReadFile(at); err == nil && bytes.Equal(old, e.data) {
			return false, nil
		}
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return false, err
	}
	if e.mode.IsDir() {
		if err := os.MkdirAll(at, 0o755); err != nil {
			return false, err
		}
		return true, os.Chmod(at, e.mode)
	}
	// Not written in place: a running program's file can't be opened for writing.
	temporary := at + ".new"
	if err := os.WriteFile(temporary, e.data, 0o644); err != nil {
		return false, err
	}
	if err := os.Chmod(temporary, e.mode); err != nil { // whatever the umask is
		return false, err
	}
	return true, os.Rename(temporary, at)
}

// epoch is the time of every file in a build context: the same content must
// give the same layers.
var epoch = time.Unix(0, 0).UTC()

// writeContext writes the folder as a tar file in a fixed order, with fixed
// times and owners.
func writeContext(w io.Writer, dir string) error {
	archive := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error { // in lexical order
		if err != nil || at == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		header, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		*header = tar.Header{Typeflag: header.Typeflag, Name: filepath.ToSlash(name), Mode: header.Mode, Size: header.Size, ModTime: epoch}
		if d.IsDir() {
			header.Name += "/"
		}
		if err := archive.WriteHeader(header); err != nil || d.IsDir() {
			return err
		}
		file, err := os.Open(at)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(archive, file)
		return err
	})
	if err != nil {
		return err
	}
	return archive.Close()
}
