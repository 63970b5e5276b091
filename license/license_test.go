package license_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/terracotta-go/terracotta/license"
)

const keyID = "test-1"

// testKey is made from a fixed seed, so that failures repeat.
func testKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('a'+seed)), ed25519.SeedSize)))
}

func publicPEM(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func trust(t testing.TB, files map[string]string) *license.Keys {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	keys, err := license.ReadKeys(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func testKeys(t testing.TB) *license.Keys {
	return trust(t, map[string]string{keyID + ".pem": string(publicPEM(t, testKey(0).Public()))})
}

func terms() license.License {
	return license.License{
		SerialNumber: "2026-0001", CustomerID: "42", CustomerName: "Smith & Söhne <GmbH>", ContractDetails: "", LicenseTypeDetails: "90 days",
		Expiration: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), OS: "any", ProductCode: license.Product, ProductName: "Terracotta Go",
		ProductVersion: "10.4", Usage: "Production", Renewal: "2026/12/01", LicenseType: "Subscription", OffheapLimit: 50 << 30,
		Flags: map[string]bool{license.FlagWebsessions: true, license.FlagTCStore: true},
	}
}

func signed(t testing.TB, l license.License) []byte {
	t.Helper()
	doc, err := license.Draft(l, keyID)
	if err != nil {
		t.Fatal(err)
	}
	doc, err = license.Sign(doc, keyID, testKey(0))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// refused fails unless err is an *Error whose reason holds want.
func refused(t testing.TB, err error, want string) *license.Error {
	t.Helper()
	var e *license.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want a refusal with %q", err, want)
	}
	if !strings.Contains(e.Reason, want) {
		t.Fatalf("reason is %q, want one with %q", e.Reason, want)
	}
	return e
}

func TestVerifyReturnsWhatWasSigned(t *testing.T) {
	want := terms()
	doc := signed(t, want)
	got, err := license.Verify(doc, testKeys(t))
	if err != nil {
		t.Fatal(err)
	}
	if got.CustomerName != want.CustomerName || got.SerialNumber != want.SerialNumber || got.OffheapLimit != want.OffheapLimit ||
		!got.Expiration.Equal(want.Expiration) || got.Renewal != want.Renewal || got.LicenseVersion != "1" {
		t.Errorf("got %+v", got)
	}
	if got.KeyID != keyID || len(got.SHA256) != 64 {
		t.Errorf("key id %q, digest %q", got.KeyID, got.SHA256)
	}
	for _, name := range license.FlagNames() {
		if flag, there := got.Flags[name]; !there || flag != want.Flags[name] {
			t.Errorf("flag %s is %v", name, flag)
		}
	}
	inspected, err := license.Inspect(doc)
	if err != nil || inspected.SerialNumber != want.SerialNumber {
		t.Errorf("inspect: %+v, %v", inspected, err)
	}
}

func TestSignReplacesAFormerSignature(t *testing.T) {
	doc := signed(t, terms())
	again, err := license.Sign(doc, keyID, testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	_, err = license.Verify(again, testKeys(t))
	refused(t, err, "signature does not fit")
	back, err := license.Sign(again, keyID, testKey(0))
	if err != nil || string(back) != string(doc) {
		t.Errorf("signing again with the first key gives another document (%v)", err)
	}
}

func TestSignRefusesAnotherKeyID(t *testing.T) {
	doc, err := license.Draft(terms(), "other")
	if err != nil {
		t.Fatal(err)
	}
	_, err = license.Sign(doc, keyID, testKey(0))
	refused(t, err, `names key "other"`)
}

func TestDraftRefusesWhatVerifyWould(t *testing.T) {
	for name, change := range map[string]func(*license.License){
		"no serial number":      func(l *license.License) { l.SerialNumber = "" },
		"newline in a field":    func(l *license.License) { l.CustomerName = "a\nb" },
		"carriage return":       func(l *license.License) { l.CustomerName = "a\rb" },
		"escape sequence":       func(l *license.License) { l.CustomerName = "a\x1b[31mb" },
		"text direction change": func(l *license.License) { l.CustomerName = "a\u202eb" },
		"the word LicenseKey":   func(l *license.License) { l.ContractDetails = "see LicenseKey" },
		"no off-heap":           func(l *license.License) { l.OffheapLimit = 0 },
		"half a gigabyte":       func(l *license.License) { l.OffheapLimit = 1 << 29 },
		"white space around":    func(l *license.License) { l.Usage = " x" },
	} {
		t.Run(name, func(t *testing.T) {
			l := terms()
			change(&l)
			_, err := license.Draft(l, keyID)
			refused(t, err, "")
		})
	}
}

func TestStateByTime(t *testing.T) {
	l := terms()
	end := l.Expiration
	for _, c := range []struct {
		at   time.Time
		want license.State
	}{
		{end.AddDate(0, 0, -31), license.Valid},
		{end.Add(-30 * 24 * time.Hour), license.Valid},
		{end.Add(-30*24*time.Hour + 1), license.Expiring},
		{end.Add(-1), license.Expiring},
		{end, license.Grace},
		{end.Add(7*24*time.Hour - 1), license.Grace},
		{end.Add(7 * 24 * time.Hour), license.Limited},
		{end.AddDate(50, 0, 0), license.Limited},
	} {
		if got := l.State(c.at); got != c.want {
			t.Errorf("at %v: %s, want %s", c.at, got, c.want)
		}
	}
	l.Expiration = time.Time{}
	if got := l.State(end.AddDate(900, 0, 0)); got != license.Valid || l.Expires() != "Unlimited" {
		t.Errorf("unlimited: %s until %s", got, l.Expires())
	}
}

func TestALicenceIsValidUntilTheEndOfItsLastDayUTC(t *testing.T) {
	l := terms()
	l.Expiration = time.Time{}
	doc := strings.Replace(string(mustDraft(t, l)), "Unlimited", "2026/12/31", 1)
	got, err := license.Inspect([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	g := license.Growth{Offheap: []uint64{1 << 30}, Largest: 1 << 30, Stripes: 1, Version: "10.4.0"}
	if got.Expires() != "2026/12/31" {
		t.Errorf("expires %s", got.Expires())
	}
	west := time.FixedZone("west", -12*3600)
	if err := got.Allow(g, time.Date(2026, 12, 31, 23, 59, 59, 999999999, time.UTC)); err != nil {
		t.Errorf("on the last day: %v", err)
	}
	refused(t, got.Allow(g, time.Date(2026, 12, 31, 12, 0, 0, 0, west)), "last valid day was 2026/12/31 (UTC)")
}

func mustDraft(t testing.TB, l license.License) []byte {
	t.Helper()
	doc, err := license.Draft(l, keyID)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestAllow(t *testing.T) {
	const gb = 1 << 30
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	fits := license.Growth{Offheap: []uint64{50 * gb}, Largest: 50 * gb, Stripes: 1, Version: "10.4.0-SNAPSHOT"}
	for _, c := range []struct {
		name   string
		change func(*license.License, *license.Growth)
		want   []string // of the reason; none = allowed
	}{
		{"exactly the limit", func(*license.License, *license.Growth) {}, nil},
		{"a byte too much", func(_ *license.License, g *license.Growth) { g.Offheap[0]++ }, []string{"all stripes exceed the licence's limit of 50 GB"}},
		{"a sum that overflows", func(_ *license.License, g *license.Growth) { g.Offheap = []uint64{1 << 63, 1 << 63} }, []string{"exceed"}},
		{"patch version", func(_ *license.License, g *license.Growth) { g.Version = "10.4.9" }, nil},
		{"other minor version", func(_ *license.License, g *license.Growth) { g.Version = "10.40.0" }, []string{`for version "10.4", this is "10.40.0"`}},
		{"other product", func(l *license.License, _ *license.Growth) { l.ProductCode = "other" }, []string{`for product "other"`}},
		{"security", func(_ *license.License, g *license.Growth) { g.Security = true }, []string{"Security is no"}},
		{"two stripes", func(l *license.License, g *license.Growth) {
			l.Flags = map[string]bool{license.FlagMultiStripe: true}
			g.Stripes, g.Offheap, g.Largest = 2, []uint64{25 * gb, 25 * gb}, 25*gb
		}, nil},
		{"resource above limit per stripe", func(l *license.License, g *license.Growth) {
			l.Flags = map[string]bool{license.FlagMultiStripe: true}
			g.Stripes, g.Offheap, g.Largest = 2, []uint64{26 * gb, 4 * gb}, 26*gb
		}, []string{"26 GB exceeds the licence's limit of 25 GB per stripe (50 GB over 2)"}},
		{"everything at once", func(_ *license.License, g *license.Growth) {
			g.Stripes, g.Security, g.Offheap, g.Version = 2, true, []uint64{60 * gb, 1}, "11.0"
		}, []string{"version", "2 stripes", "Security", "50 GB", "25 GB per stripe"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, g := terms(), fits
			g.Offheap = append([]uint64(nil), fits.Offheap...)
			c.change(&l, &g)
			err := l.Allow(g, now)
			if len(c.want) == 0 && err != nil {
				t.Fatalf("refused: %v", err)
			}
			for _, want := range c.want {
				refused(t, err, want)
			}
		})
	}
}
