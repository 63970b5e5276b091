package license_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"github.com/terracotta-go/terracotta/internal/fuzzing"
	"github.com/terracotta-go/terracotta/license"
)

func mapFile(data []byte) *fstest.MapFile { return &fstest.MapFile{Data: data} }

func mapFS(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = mapFile([]byte(text))
	}
	return fsys
}

// The law: flip, insert, delete or swap any byte of a licence, and it is refused.
func TestAnyChangedByteIsAnError(t *testing.T) {
	doc, keys := signed(t, terms()), testKeys(t)
	must := func(t *testing.T, what string, at int, changed []byte) {
		t.Helper()
		if bytes.Equal(changed, doc) {
			return
		}
		if _, err := license.Verify(changed, keys); err == nil {
			t.Errorf("accepted after %s at byte %d", what, at)
		}
	}
	t.Run("flip", func(t *testing.T) {
		t.Parallel()
		for at := range doc {
			for _, mask := range []byte{0x01, 0x20, 0x80} {
				changed := bytes.Clone(doc)
				changed[at] ^= mask
				must(t, "a flip", at, changed)
			}
		}
	})
	t.Run("insert", func(t *testing.T) {
		t.Parallel()
		for at := range len(doc) + 1 {
			for _, b := range []byte{'\n', doc[min(at, len(doc)-1)]} {
				must(t, "an insertion", at, slices.Insert(bytes.Clone(doc), at, b))
			}
		}
	})
	t.Run("delete", func(t *testing.T) {
		t.Parallel()
		for at := range doc {
			must(t, "a deletion", at, slices.Delete(bytes.Clone(doc), at, at+1))
			must(t, "a cut", at, doc[:at])
		}
	})
	t.Run("swap", func(t *testing.T) {
		t.Parallel()
		for at := range len(doc) - 1 {
			changed := bytes.Clone(doc)
			changed[at], changed[at+1] = changed[at+1], changed[at]
			must(t, "a swap", at, changed)
		}
	})
}

// Whatever terms Draft accepts come back from Verify unchanged.
func TestTermsSurviveTheDocument(t *testing.T) {
	keys := testKeys(t)
	rapid.Check(t, func(r *rapid.T) {
		l := terms()
		l.CustomerName = rapid.String().Draw(r, "customer")
		l.ContractDetails = rapid.StringMatching(`[ -~]{0,40}`).Draw(r, "contract")
		l.OffheapLimit = rapid.Uint64Range(1, 1<<30).Draw(r, "gb") << 30
		for _, name := range license.FlagNames() {
			l.Flags[name] = rapid.Bool().Draw(r, name)
		}
		doc, err := license.Draft(l, keyID)
		if err != nil {
			return
		}
		doc, err = license.Sign(doc, keyID, testKey(0))
		if err != nil {
			r.Fatal(err)
		}
		got, err := license.Verify(doc, keys)
		if err != nil {
			r.Fatal(err)
		}
		if got.CustomerName != l.CustomerName || got.ContractDetails != l.ContractDetails || got.OffheapLimit != l.OffheapLimit {
			r.Fatalf("got %+v", got)
		}
		for name, flag := range l.Flags {
			if got.Flags[name] != flag {
				r.Fatalf("flag %s is %v", name, got.Flags[name])
			}
		}
	})
}

// No input panics; every refusal is an *Error; what verifies is the one
// document that was signed; what can be inspected can be signed and then verifies.
func FuzzVerify(f *testing.F) {
	doc, keys := signed(f, terms()), testKeys(f)
	f.Add(doc)
	f.Add([]byte("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<TerracottaGoLicense><!-- --></TerracottaGoLicense>"))
	f.Add(bytes.ReplaceAll(doc, []byte("any"), []byte("&amp;")))
	f.Add([]byte("<!DOCTYPE html>"))
	f.Fuzz(func(t *testing.T, input []byte) {
		var refusal *license.Error
		var l, inspected *license.License
		var err, inspectErr error
		fuzzing.Bounded(t, input, func() {
			l, err = license.Verify(input, keys)
			inspected, inspectErr = license.Inspect(input)
		})
		switch {
		case err == nil && !bytes.Equal(input, doc):
			t.Fatal("another document verifies")
		case err != nil && (l != nil || !errors.As(err, &refusal) || refusal.Reason == ""):
			t.Fatalf("refusal without a reason: %v", err)
		}
		if inspectErr != nil {
			return
		}
		signedInput, err := license.Sign(input, inspected.KeyID, testKey(0))
		if err != nil {
			t.Fatalf("can be inspected but not signed: %v", err)
		}
		if _, err := license.Verify(signedInput, keys); err != nil && inspected.KeyID == keyID {
			t.Fatalf("signed but refused: %v", err)
		}
	})
}
