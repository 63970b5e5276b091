package client

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseURI(t *testing.T) {
	for in, want := range map[string]URI{
		"terracotta://localhost":                       {[]string{"localhost:9410"}, ""},
		"terracotta://localhost/":                      {[]string{"localhost:9410"}, ""},
		"terracotta://a:1,B.example.com:65535/My-Data": {[]string{"a:1", "b.example.com:65535"}, "My-Data"},
		"TERRACOTTA://a":                               {[]string{"a:9410"}, ""},
		"terracotta://[::1],[fe80::1]:9510/d":          {[]string{"[::1]:9410", "[fe80::1]:9510"}, "d"},
		"terracotta://10.0.0.1/caf%C3%A9":              {[]string{"10.0.0.1:9410"}, "café"},
		"terracotta://terracotta_1:9410/d":             {[]string{"terracotta_1:9410"}, "d"},
	} {
		got, err := ParseURI(in)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v", in, got, err)
		}
		if again, err := ParseURI(got.String()); err != nil || !reflect.DeepEqual(got, again) {
			t.Errorf("%s came back as %+v, %v", got, again, err)
		}
	}
	for in, want := range map[string]string{
		"":                                           "does not start with",
		"localhost:9410":                             "does not start with",
		"http://localhost":                           "does not start with",
		"terracotta://":                              "empty host",
		"terracotta:///d":                            "empty host",
		"terracotta://a,/d":                          "empty host",
		"terracotta://a,A:9410":                      "twice",
		"terracotta://a:0":                           "port",
		"terracotta://a:":                            "port",
		"terracotta://a:65536":                       "port",
		"terracotta://a:09410":                       "port",
		"terracotta://a:http":                        "port",
		"terracotta://::1":                           "brackets",
		"terracotta://[::1":                          "closing bracket",
		"terracotta://[::1]9410":                     "after the bracket",
		"terracotta://[localhost]":                   "not an IPv6 address",
		"terracotta://a b":                           "character",
		"terracotta://a\nb":                          "character",
		"terracotta://user:secret@a/d":               "a setting of its own",
		"terracotta://a/d?x=1":                       "a query",
		"terracotta://a/d#x":                         "a fragment",
		"terracotta://a/d/e":                         "slash",
		"terracotta://a/d%2Fe":                       "slash",
		"terracotta://a/%zz":                         "dataset",
		"terracotta://a/%00":                         "printable",
		"terracotta://a/%ff":                         "printable",
		"terracotta://a/" + strings.Repeat("d", 129): "at most 128",
	} {
		_, err := ParseURI(in)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "an example is terracotta://") {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q repeats the password", err)
		}
	}
}

// Law: what parses is written back so that it parses to the same.
func FuzzParseURI(f *testing.F) {
	f.Add("terracotta://a:1,[::1]/d%20x")
	f.Fuzz(func(t *testing.T, in string) {
		u, err := ParseURI(in)
		if err != nil {
			return
		}
		again, err := ParseURI(u.String())
		if err != nil || !reflect.DeepEqual(u, again) {
			t.Errorf("%q: %+v came back as %+v, %v", in, u, again, err)
		}
	})
}
