package server

import (
	"strings"
	"testing"
)

func TestGlobMatchesAsRedisDoes(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "abc", true}, {"a*", "abc", true}, {"*c", "abc", true},
		{"a*c", "abc", true}, {"a*d", "abc", false}, {"*b*", "abc", true}, {"a**c", "abc", true}, {"a*b*c", "aXbXbYc", true},
		{"?", "a", true}, {"?", "", false}, {"a?c", "abc", true}, {"???", "ab", false},
		{"[abc]", "b", true}, {"[abc]", "d", false}, {"[^abc]", "d", true}, {"[^abc]", "a", false},
		{"[a-c]x", "bx", true}, {"[c-a]x", "bx", true}, {"[a-c]", "d", false}, {"[a\\]]", "]", true}, {"[a", "a", true}, {"[", "a", false},
		{"\\*", "*", true}, {"\\*", "a", false}, {"a\\", "a\\", true}, {"h[^e]llo", "hallo", true}, {"h[^e]llo", "hello", false},
		{"key:*:[0-9]", "key:a:b:7", true}, {"\xff*", "\xff\x00", true},
	} {
		steps := 1000
		if got := matchGlob([]byte(c.pattern), []byte(c.s), &steps); got != c.want {
			t.Errorf("%q on %q: %v", c.pattern, c.s, got)
		}
	}
}

// What makes a backtracking matcher take for ever takes as many steps here as the lengths' product.
func TestGlobOfManyStarsIsBounded(t *testing.T) {
	pattern, s := strings.Repeat("*a", 500)+"b", strings.Repeat("a", 1000)
	const limit = 1 << 21
	steps := limit
	if matchGlob([]byte(pattern), []byte(s), &steps) {
		t.Error("it matches")
	}
	if used := limit - steps; used > 2*len(pattern)*len(s) {
		t.Errorf("%d steps for %d and %d bytes", used, len(pattern), len(s))
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("a*[b-", "ab")
	f.Add("[^]\\", "x")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		limit := 2*(len(pattern)+1)*(len(s)+1) + 2
		steps := limit
		matchGlob([]byte(pattern), []byte(s), &steps)
		if steps < 0 {
			t.Errorf("%q on %q took %d steps", pattern, s, limit-steps)
		}
		if quoted := "\\" + strings.Join(strings.Split(s, ""), "\\"); s != "" && isASCII(s) && !matchGlob([]byte(quoted), []byte(s), &steps) {
			t.Errorf("%q does not match itself", s)
		}
	})
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 127 }) < 0
}
