package wire

import (
	"strconv"
	"testing"
)

// A number has one spelling, and what does not fit is no other number.
func TestNumbersHaveOneSpelling(t *testing.T) {
	for _, s := range []string{"0", "7", "10", "9999999999999999999", "10000000000000000000", "18446744073709551609", "18446744073709551615",
		"18446744073709551616", "18446744073709551620", "20000000000000000000", "99999999999999999999", "100000000000000000000",
		"", "00", "01", "-1", "+1", " 1", "1 ", "1_000", "/", ":", "1/", "1:", "\x00", "\xff"} {
		want, err := strconv.ParseUint(s, 10, 64)
		fits := err == nil && strconv.FormatUint(want, 10) == s
		if n, err := parseUint([]byte(s)); (err == nil) != fits || fits && n != want {
			t.Errorf("%q is read as %d, %v", s, n, err)
		}
	}
}
