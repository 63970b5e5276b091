package websessions

import (
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
)

// TestEverySettingWorksAsPropertyAndInTheEnvironment also holds that each
// example parses and changes something, and that each default is what zero means.
func TestEverySettingWorksAsPropertyAndInTheEnvironment(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range Settings() {
		example := s.Example
		if s.Property == Prefix+"passwordFile" {
			example = secret
		}
		byProperty, err := ConfigFromProperties(Config{}, map[string]string{s.Property: example, "other.property": "x"})
		if err != nil {
			t.Fatalf("%s: %v", s.Property, err)
		}
		byEnv, err := ConfigFromEnv(Config{}, []string{s.Env + "=" + example, "PATH=/bin"})
		if err != nil {
			t.Fatalf("%s: %v", s.Env, err)
		}
		if !reflect.DeepEqual(byProperty, byEnv) {
			t.Errorf("%s and %s differ: %+v, %+v", s.Property, s.Env, byProperty, byEnv)
		}
		if reflect.DeepEqual(byProperty, Config{}) && example != "false" {
			t.Errorf("%s=%s changes nothing", s.Property, example)
		}
		if s.Default != "" {
			c, err := ConfigFromProperties(Config{}, map[string]string{s.Property: s.Default})
			if err != nil {
				t.Fatalf("%s: default: %v", s.Property, err)
			}
			want := Config{}.withDefaults()
			got := c.withDefaults()
			want.Logger, want.ErrorPage, got.Logger, got.ErrorPage = nil, nil, nil, nil
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: the default %q is not what zero means", s.Property, s.Default)
			}
		}
		if s.Doc == "" || !strings.HasSuffix(s.Doc, ".") || s.Env != strings.Map(upper, s.Env) {
			t.Errorf("%s: doc %q, env %q", s.Property, s.Doc, s.Env)
		}
	}
}

func upper(r rune) rune { return unicode.ToUpper(r) }

func TestNamesInTheEnvironment(t *testing.T) {
	for property, env := range map[string]string{
		"store.tcstore.uri":             "TERRACOTTA_WEBSESSIONS_STORE_TCSTORE_URI",
		"store.tcstore.offheapResource": "TERRACOTTA_WEBSESSIONS_STORE_TCSTORE_OFFHEAP_RESOURCE",
		"maxBytesOnHeap":                "TERRACOTTA_WEBSESSIONS_MAX_BYTES_ON_HEAP",
		"cookie.sameSite":               "TERRACOTTA_WEBSESSIONS_COOKIE_SAME_SITE",
	} {
		if got := envName(property); got != env {
			t.Errorf("%s is %s", property, got)
		}
	}
}

func TestPropertiesOfTheGuide(t *testing.T) {
	c, err := ConfigFromProperties(Config{Label: "kept"}, map[string]string{
		Prefix + "store.tcstore.uri":             "terracotta://a:9410,b/cart",
		Prefix + "store.tcstore.offheapResource": "offheap-1",
		Prefix + "store.tcstore.diskResource":    "dataroot-1",
		Prefix + "store.tcstore.tags":            "node-1, webapp,",
		Prefix + "synchronousWrite":              "TRUE",
		Prefix + "maxBytesOnHeap":                "128M",
		Prefix + "maxBytesOffHeap":               "4G",
		Prefix + "rejoin":                        "false",
		Prefix + "nonStopTimeout":                "30000",
		Prefix + "stallTimeout":                  "500ms",
		Prefix + "concurrency":                   "256",
		Prefix + "cookie.sameSite":               "Strict",
		Prefix + "idleTimeout":                   "none",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Config{URI: "terracotta://a:9410,b/cart", OffheapResource: "offheap-1", DiskResource: "dataroot-1",
		Tags: []string{"node-1", "webapp"}, SynchronousWrite: true, MaxBytesOnHeap: 128 << 20, MaxBytesOffHeap: 4 << 30,
		NonStopTimeout: 30 * time.Second, StallTimeout: 500 * time.Millisecond, Concurrency: 256, Cookie: Cookie{SameSite: http.SameSiteStrictMode},
		IdleTimeout: -1, Label: "kept"}
	if !reflect.DeepEqual(c, want) {
		t.Fatalf("got %+v", c)
	}
	c, err = ConfigFromEnv(c, []string{"TERRACOTTA_WEBSESSIONS_NON_STOP_TIMEOUT=-1", "TERRACOTTA_WEBSESSIONS_LABEL="})
	if err != nil || c.NonStopTimeout != -1 || c.Label != "kept" || c.Concurrency != 256 {
		t.Fatalf("overlay: %+v, %v", c, err)
	}
}

func TestAllFaultsAtOnceAndTheNearestName(t *testing.T) {
	_, err := ConfigFromProperties(Config{}, map[string]string{
		Prefix + "nonstoptimeout":     "1",
		Prefix + "tcstore.uri":        "x",
		Prefix + "rejoin":             "maybe",
		Prefix + "concurrency":        "many",
		Prefix + "maxBytesOnHeap":     "9999999999G",
		Prefix + "maxBytesOffHeap":    "4 apples",
		Prefix + "idleTimeout":        "30",
		Prefix + "absoluteTimeout":    "-5m",
		Prefix + "nonStopTimeout":     "0",
		Prefix + "stallTimeout":       "none",
		Prefix + "cookie.sameSite":    "loose",
		Prefix + "cookie.maxAge":      "1ns",
		Prefix + "passwordFile":       "/no/such/file",
		"terracotta.server.something": "ignored",
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`"terracotta.websessions.nonstoptimeout"; did you mean terracotta.websessions.nonStopTimeout?`,
		`did you mean terracotta.websessions.store.tcstore.uri?`,
		`rejoin="maybe": neither true nor false; example: true`, `concurrency="many"`, `too large`, "unknown unit",
		`idleTimeout="30": not a duration with a unit`, "absoluteTimeout", "would fail every request", "would stop the application", "none of lax, strict, none",
		"cookie.maxAge", "/no/such/file",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "terracotta.server") || len(strings.Split(err.Error(), "\n")) != 13 {
		t.Errorf("not thirteen faults:\n%v", err)
	}
	_, err = ConfigFromEnv(Config{}, []string{"TERRACOTTA_WEBSESSIONS_CONCURENCY=1"})
	if err == nil || !strings.Contains(err.Error(), "TERRACOTTA_WEBSESSIONS_CONCURRENCY?") {
		t.Errorf("environment: %v", err)
	}
}

func TestValidateRefusesWithReasons(t *testing.T) {
	for want, c := range map[string]Config{
		"a later version":     {SessionLocking: true},
		"localReads and noop": {NonStopBehavior: "localReads"},
		"concurrency":         {Concurrency: -1},
		"cookie.name":         {Cookie: Cookie{Name: "a b"}},
		"it is added over":    {Cookie: Cookie{Name: "__Host-x"}},
		"cookie.domain":       {Cookie: Cookie{Domain: "a;b"}},
		"cookie.route":        {Cookie: Cookie{Route: "a/b"}},
		"cookie.maxAge":       {Cookie: Cookie{MaxAge: -1}},
		"contextPath":         {ContextPath: "shop"},
		"absoluteTimeout":     {AbsoluteTimeout: -1},
		"tags":                {Tags: []string{"a,b"}},
		"maxBytesOnHeap":      {MaxBytesOnHeap: -1},
	} {
		if _, err := NewMemory(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", c, err)
		}
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "uri is missing") {
			t.Errorf("New: %v", err)
		}
	}
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "1": 1, "1k": 1 << 10, "2KB": 2 << 10, "128M": 128 << 20, "4g": 4 << 30, "1T": 1 << 40} {
		if got, err := parseSize(in); got != want || err != nil {
			t.Errorf("%s: %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "M", "-1", "1.5G", "1X", "9223372036854775807k", "1 M"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("%q: %d", in, got)
		}
	}
}
