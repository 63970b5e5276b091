package license

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Keys are the trusted public keys by id, and what was revoked. They don't
// change once read and may be used from any goroutine.
type Keys struct {
	byID           map[string]ed25519.PublicKey // key id -> key
	revokedKeys    map[string]bool              // key id -> true
	revokedSerials map[string]bool              // SerialNumber -> true
}

const (
	revokedFile  = "revoked"
	maxTrustFile = 64 << 10
	pemType      = "PUBLIC KEY"
)

var (
	keyIDForm  = regexp.MustCompile(`\A[a-z0-9][a-z0-9-]{0,30}\z`)
	serialForm = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z`)
)

// ValidKeyID tells whether id may name a key: 1 to 31 of a-z, 0-9 and hyphen,
// not starting with a hyphen.
func ValidKeyID(id string) bool { return keyIDForm.MatchString(id) }

// Development tells whether id names a development key, which a release must
// not trust and a server warns about.
func Development(id string) bool { return strings.HasPrefix(id, "dev-") }

// ReadKeys reads every *.pem in the root of fsys: the file's base name is the key id. A file
// named revoked lists revoked keys ("key ID") and serial numbers ("serial N"), one a line;
// empty lines and lines that start with # don't count.
// Anything unreadable there is an error: a damaged trust store trusts nobody. So
// is a private key, and one key under two ids, because revoking one of them
// would leave the other. Other files and folders are left alone; no key at all
// is no error here, but then Verify trusts nobody.
func ReadKeys(fsys fs.FS) (*Keys, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("read trusted keys: %w", err)
	}
	keys := &Keys{map[string]ed25519.PublicKey{}, map[string]bool{}, map[string]bool{}}
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case name == revokedFile:
			err = keys.readRevoked(fsys)
		case strings.EqualFold(path.Ext(name), ".pem"):
			err = keys.readKey(fsys, name)
		}
		if err != nil {
			return nil, fmt.Errorf("read trusted keys: %q: %w", name, err)
		}
	}
	return keys, nil
}

// IDs lists the key ids, sorted; dev-* keys are development keys. Revoked keys
// are not among them.
func (k *Keys) IDs() []string {
	ids := slices.Sorted(maps.Keys(k.byID))
	return slices.DeleteFunc(ids, func(id string) bool { return k.revokedKeys[id] })
}

func (k *Keys) readKey(fsys fs.FS, name string) error {
	id, isPEM := strings.CutSuffix(name, ".pem")
	if !isPEM || !ValidKeyID(id) {
		return errors.New("the name of a key file is 1 to 31 of a-z, 0-9 and hyphen, then .pem")
	}
	text, err := readSmall(fsys, name)
	if err != nil {
		return err
	}
	key, err := ParsePublicKey(text)
	if err != nil {
		return err
	}
	for other, otherKey := range k.byID {
		if otherKey.Equal(key) {
			return fmt.Errorf("the same key is trusted as %q already", other)
		}
	}
	k.byID[id] = key
	return nil
}

// ParsePublicKey reads the PEM text of one Ed25519 public key and accepts
// nothing beside it.
func ParsePublicKey(text []byte) (ed25519.PublicKey, error) {
	text = bytes.TrimSpace(text)
	if !bytes.HasPrefix(text, []byte("-----BEGIN ")) {
		return nil, errors.New("not a PEM file")
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, errors.New("not a PEM file")
	case strings.Contains(block.Type, "PRIVATE"):
		return nil, errors.New("a private key has no place among trusted keys: remove it, and regard it as lost")
	case block.Type != pemType || len(block.Headers) != 0:
		return nil, fmt.Errorf("a trusted key is a PEM block %q without headers, this is %q", pemType, block.Type)
	case len(bytes.TrimSpace(rest)) != 0:
		return nil, errors.New("more than one key in the file")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("not a public key: %w", err)
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("a trusted key is Ed25519, this is %T", parsed)
	}
	return key, nil
}

func (k *Keys) readRevoked(fsys fs.FS) error {
	text, err := readSmall(fsys, revokedFile)
	if err != nil {
		return err
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		switch words := strings.Fields(line); {
		case len(words) == 2 && words[0] == "key" && keyIDForm.MatchString(words[1]):
			k.revokedKeys[words[1]] = true
		case len(words) == 2 && words[0] == "serial" && serialForm.MatchString(words[1]):
			k.revokedSerials[words[1]] = true
		default:
			return fmt.Errorf("line %d is neither \"key ID\" nor \"serial NUMBER\"", number)
		}
	}
	return nil
}

func readSmall(fsys fs.FS, name string) ([]byte, error) {
	// Before opening: a pipe would keep the start of a server waiting.
	if info, err := fs.Stat(fsys, name); err == nil && !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	file, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxTrustFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxTrustFile {
		return nil, fmt.Errorf("larger than %d bytes", maxTrustFile)
	}
	return text, nil
}
