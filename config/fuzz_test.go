package config

import (
	"hash/crc32"
	"math"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/terracotta-go/terracotta/internal/fuzzing"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// located is what each fault of a tc-config.xml starts with.
var located = regexp.MustCompile(`^tc\.xml:[1-9][0-9]*:[1-9][0-9]*: `)

// Whatever the bytes: no panic, every fault has its place, and what is accepted
// is something that a server can run.
func FuzzParseTCConfig(f *testing.F) { fuzzTCConfig(f, "minimal", "pair", "single") }

// The same from the form of Terracotta 4.x.
func FuzzParseTCConfigOf4x(f *testing.F) { fuzzTCConfig(f, "tc43") }

func fuzzTCConfig(f *testing.F, seeds ...string) {
	for _, name := range seeds {
		doc, err := os.ReadFile("testdata/" + name + ".xml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(doc)
	}
	if slices.Contains(seeds, "tc43") {
		f.Add([]byte(old(`<server host="a" name="A"><data>%(user.home)/d</data><tsa-port bind="::1">9610</tsa-port><management-port>9640</management-port></server>`)))
	} else {
		f.Add([]byte(minimal("")))
	}
	f.Add([]byte(`<?xml version="1.0"?><!DOCTYPE a><a><![CDATA[x]]>&lt;</a>`))
	vars := varsOf([]string{"HOSTNAME=box", "HOME=/root", "USER=u"})
	f.Fuzz(func(t *testing.T, doc []byte) {
		var tc tcConfig
		var faults []error
		fuzzing.Bounded(t, doc, func() { tc, faults = parseTC("tc.xml", doc, vars) })
		for _, fault := range faults {
			if !located.MatchString(fault.Error()) || strings.Contains(fault.Error(), "\x00") {
				t.Errorf("fault without a place: %q", fault)
			}
		}
		if len(faults) > 0 {
			return
		}
		s := tc.stripe
		if tc.old {
			if len(tc.data) != len(s.Servers) || len(tc.dataAt) != len(s.Servers) || len(tc.management) != len(s.Servers) {
				t.Errorf("%d servers, %q, %q, %d", len(s.Servers), tc.data, tc.dataAt, tc.management)
			}
			// What completes the file costs more than to read it, and hardly depends on it.
			if crc32.ChecksumIEEE(doc)%32 != 0 {
				checkServers(t, s.Servers)
				return
			}
			var err error
			if s, err = ParseTCConfig("tc.xml", doc, vars); err != nil {
				t.Fatal(err)
			}
		}
		checkStripe(t, s)
	})
}

func checkServers(t *testing.T, servers []wire.ServerConfig) {
	t.Helper()
	names := map[string]bool{}
	for _, srv := range servers {
		if names[srv.Name] || checkName(srv.Name) != "" || checkHost(srv.Host) != "" || srv.Port < 1 || srv.Port > 65535 || srv.GroupPort < 1 || srv.GroupPort > 65535 {
			t.Errorf("server %+v", srv)
		}
		names[srv.Name] = true
	}
	if len(servers) == 0 {
		t.Error("no servers")
	}
}

func checkStripe(t *testing.T, s wire.StripeConfig) {
	t.Helper()
	checkServers(t, s.Servers)
	for _, r := range s.OffheapResources {
		if checkName(r.Name) != "" || r.Size == 0 || int64(r.Size) < 0 {
			t.Errorf("resource %+v", r)
		}
	}
	platforms := 0
	for _, d := range s.DataDirectories {
		if d.Platform {
			platforms++
		}
	}
	if len(s.OffheapResources) == 0 || s.FailoverPriority == "" || platforms > 1 || platforms == 0 && len(s.DataDirectories) > 0 {
		t.Errorf("accepted: %+v", s)
	}
}

func FuzzJavaOpts(f *testing.F) {
	for _, line := range []string{
		"-Dterracotta.websessions.store.tcstore.uri=terracotta://terracotta:9410/sessions-example -Xmx1g",
		`-Da="b c" -Db='d e' -Dc=f\ g`, `"`, `'`, `\`, "-D", "-D=", "-Da", "\x00",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		opts, err := parseJavaOpts(line)
		if err != nil {
			return
		}
		for name := range opts.props {
			if name == "" {
				t.Error("a property without a name")
			}
		}
		if n := len(opts.props) + len(opts.ignored); n > len(line) {
			t.Errorf("%d words out of %d bytes", n, len(line))
		}
	})
}

// Quoted as for a shell, any words come back as they were.
func TestJavaOptsQuotingIsAShells(t *testing.T) {
	quote := []func(string) string{
		func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" },
		func(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` },
		func(s string) string {
			var b strings.Builder
			for i := range len(s) {
				b.WriteByte('\\')
				b.WriteByte(s[i])
			}
			return b.String()
		},
	}
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[ -~\t\n]{1,12}`), 0, 6).Draw(t, "words")
		line := ""
		for _, w := range words {
			line += " \t" + rapid.SampledFrom(quote).Draw(t, "quote")(w) + "\n"
		}
		got, err := splitWords(line)
		if err != nil || len(got) != len(words) || len(words) > 0 && !reflect.DeepEqual(got, words) {
			t.Fatalf("%q from %q: %v", got, line, err)
		}
	})
}

func TestJavaOpts(t *testing.T) {
	opts, err := parseJavaOpts(`-Xmx512m -Da.b=c -Da.b="d e" -javaagent:/x.jar=key=secret  -Dempty -D=x '' -Dq='1'"2"3`)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, opts.props, map[string]string{"a.b": "d e", "empty": "", "q": "123"})
	equal(t, opts.ignored, []string{"-Xmx512m", "-javaagent:...", "-D=...", ""})
	for line, says := range map[string]string{
		`-Da="b`: "never closed", `-Da=\`: "backslash", "a\x00": "zero byte", strings.Repeat("x", maxJavaOpts+1): "at most 65536",
	} {
		if _, err := parseJavaOpts(line); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.20q: %v", line, err)
		}
	}
}

// Whatever stands in the environment: no panic, and a fault names its variable or key.
func TestAnyEnvironment(t *testing.T) {
	nasty := []string{"", " ", "0", "-1", "65536", "99999999999999999999", "a", "a b", "%h", "../..", "/", "\x00", "\n", "ü", "[::1]",
		"terracotta://a", "tcp://x:1", "8MB", "MB", "testdata/pair.xml", "testdata", strings.Repeat("x", 1000)}
	rapid.Check(t, func(t *rapid.T) {
		var environ []string
		for _, rows := range tables {
			for _, r := range rows {
				if rapid.IntRange(0, 3).Draw(t, "given") == 0 {
					environ = append(environ, r.env+"="+rapid.SampledFrom(nasty).Draw(t, r.env))
				}
			}
		}
		_, server := LoadServer(nil, environ)
		_, tool := LoadTool(environ)
		_, cart := LoadCart(nil, environ)
		for _, err := range []error{server, tool, cart} {
			if joined, ok := err.(interface{ Unwrap() []error }); ok {
				for _, fault := range joined.Unwrap() {
					if f, ok := fault.(*Fault); ok && (f.Key == "" || f.Problem == "" || strings.ContainsAny(f.Error(), "\x00\n")) {
						t.Fatalf("%q", f.Error())
					}
				}
			}
		}
	})
}

func TestSizesAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Range(1, math.MaxInt64).Draw(t, "n")
		f := load(serverRows, nil, []string{"TC_MAX_VALUE_SIZE=" + formatSize(n)}, "")
		if got := f.size("max-value-size", 1, math.MaxInt64); got != n || f.err() != nil {
			t.Fatalf("%d became %d: %v", n, got, f.err())
		}
	})
}

func TestFaultsStayReadable(t *testing.T) {
	f := &Fault{Key: "bind", Value: strings.Repeat("x", 5000) + "\n", Origin: "flag --bind", Problem: "is too long"}
	if line := f.Error(); len(line) > 200 || strings.Contains(line, "\n") || !strings.Contains(line, "…") {
		t.Errorf("%q", line)
	}
}
