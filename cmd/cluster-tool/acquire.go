package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/license"
)

// verifiedLicense is a licence document together with what it says.
type verifiedLicense struct {
	*license.License
	doc []byte
}

// acquireLicense finds and verifies the licence of a command: the file of -l,
// else the document at LICENSE_URL, which is then kept as the default file, else
// the default file. A failed fetch is the end: an older file never takes its place.
func (t *tool) acquireLicense(ctx context.Context, c config.Tool, file string) (*verifiedLicense, error) {
	byURL := c.LicenseURL != ""
	if byURL && file != "" && filepath.Clean(file) != filepath.Clean(c.LicenseFile) {
		fmt.Fprintf(t.stderr, "Note: -l %s is used, LICENSE_URL is not.\n", file)
		byURL = false
	}
	if !byURL {
		return t.licenseFromFile(c, file)
	}
	f, err := newFetcher(c, http.ProxyFromEnvironment)
	if err != nil {
		return nil, err
	}
	f.say = func(line string) { fmt.Fprintln(t.stderr, line) }
	f.total = min(f.total, t.timeout())
	doc, err := f.fetch(ctx)
	if err != nil {
		return nil, err
	}
	// Verified before it is kept: what lies in the folder of licences is one.
	l, err := verifyDocument("from "+f.shown, doc, c.TrustedKeys)
	if err != nil {
		return nil, err
	}
	if err := keepLicense(c.LicenseFile, doc); err != nil {
		return nil, err
	}
	return &verifiedLicense{l, doc}, nil
}

func (t *tool) licenseFromFile(c config.Tool, file string) (*verifiedLicense, error) {
	if file == "" {
		file = c.LicenseFile
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			return nil, fail(codeBadRequest, "no licence: there is neither -l FILE nor LICENSE_URL, and %q does not exist", file).
				hint("give -l license.xml, or set LICENSE_URL=https://server/license.xml, or mount a folder with license.xml at %s", filepath.Dir(file))
		}
	}
	doc, err := t.readLicense(file)
	if err != nil {
		return nil, err
	}
	l, err := verifyDocument(file, doc, c.TrustedKeys)
	if err != nil {
		return nil, err
	}
	return &verifiedLicense{l, doc}, nil
}

// keepLicense writes doc to file: whole or not at all. A file that holds doc
// already is left alone, so that it may lie in a folder mounted read-only.
func keepLicense(file string, doc []byte) error {
	if old, err := readLicenseFile("licence file", file); err == nil && bytes.Equal(old, doc) {
		return nil
	}
	dir := filepath.Dir(file)
	refuse := func(err error) error { return cannotKeep(file, err) }
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return refuse(err)
	}
	tmp, err := os.CreateTemp(dir, ".license-*")
	if err != nil {
		return refuse(err)
	}
	defer os.Remove(tmp.Name()) // nothing to remove after the rename
	defer tmp.Close()
	if _, err := tmp.Write(doc); err != nil {
		return refuse(err)
	}
	// Readable for others, as the file of a mounted folder would be; it is no secret.
	if err := errors.Join(tmp.Chmod(0o644), tmp.Sync(), tmp.Close()); err != nil {
		return refuse(err)
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return refuse(err)
	}
	return nil
}

// cannotKeep says why file cannot be written and whom to give the folder to.
func cannotKeep(file string, err error) error {
	dir := filepath.Dir(file)
	e := fail(codeBadRequest, "the licence was fetched, but cannot be kept in %q: %v (running as user %d:%d)",
		dir, causeOf(err), os.Getuid(), os.Getgid())
	switch {
	case errors.Is(err, syscall.EBUSY):
		e.Message = fmt.Sprintf("the licence was fetched, but %q is mounted as a single file and cannot be replaced", file)
		return e.hint("mount its folder at %s instead, or leave LICENSE_URL away and use the mounted file", dir)
	case errors.Is(err, syscall.EROFS):
		return e.hint("the folder is read-only: mount it writable, or leave LICENSE_URL away and mount a folder that holds the licence")
	case errors.Is(err, syscall.ENOSPC):
		return e.hint("make room on the disk behind that folder")
	}
	return e.hint("give that user the folder: chown %d:%d FOLDER on the machine that holds it, or use a named volume", os.Getuid(), os.Getgid())
}
