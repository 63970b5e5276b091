package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// units are the sizes of memory as the original counts them.
var units = []struct {
	name  string
	bytes uint64
}{{"PB", 1 << 50}, {"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"B", 1}}

// parseSize multiplies a whole number by a unit, exactly; the product fits an int64.
func parseSize(number, unit string) (uint64, error) {
	n, err := parseWhole(number)
	if err != nil {
		return 0, err
	}
	for _, u := range units {
		if !strings.EqualFold(u.name, unit) {
			continue
		}
		if n > math.MaxInt64/u.bytes {
			return 0, fmt.Errorf("%s %s is too large", number, unit)
		}
		return n * u.bytes, nil
	}
	return 0, fmt.Errorf("unit %s is none of B, kB, MB, GB, TB, PB", quoted(unit))
}

// parseWhole parses decimal digits and nothing else.
func parseWhole(s string) (uint64, error) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("is not a whole number")
		}
	}
	n, err := strconv.ParseUint(s, 10, 63)
	switch {
	case s == "":
		return 0, fmt.Errorf("is not a whole number")
	case err != nil:
		return 0, fmt.Errorf("is too large")
	}
	return n, nil
}

// number returns a setting that is a whole number between min and max.
func (f *floors) number(key string, min, max int) int {
	n, err := parseWhole(f.v.GetString(key))
	if err == nil && (n < uint64(min) || n > uint64(max)) {
		err = fmt.Errorf("is not between %d and %d", min, max)
	}
	if err != nil {
		f.bad(key, err.Error())
		return 0
	}
	return int(n)
}

// size returns a setting such as 8MB, in bytes.
func (f *floors) size(key string, min, max uint64) uint64 {
	text := f.v.GetString(key)
	digits := strings.TrimRightFunc(text, func(r rune) bool { return !unicode.IsDigit(r) })
	unit := strings.TrimSpace(text[len(digits):])
	if unit == "" {
		unit = "B"
	}
	n, err := parseSize(digits, unit)
	if err == nil && (n < min || n > max) {
		err = fmt.Errorf("is not between %s and %s", formatSize(min), formatSize(max))
	}
	if err != nil {
		f.bad(key, err.Error())
		return 0
	}
	return n
}

// spelled are words as they are best written where a space needs quotes.
func spelled(words []string) []string {
	list := slices.Clone(words)
	for i, w := range list {
		list[i] = strings.ReplaceAll(w, " ", "-")
	}
	return list
}

// oneOf returns a setting that is one of words; upper and lower case, hyphens
// and spaces don't matter.
func (f *floors) oneOf(key string, words ...string) string {
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", " ")) }
	text := f.v.GetString(key)
	if i := slices.IndexFunc(words, func(w string) bool { return plain(w) == plain(text) }); i >= 0 {
		return words[i]
	}
	f.bad(key, "is none of "+strings.Join(spelled(words), ", "))
	return ""
}

// formatSize writes n with the largest unit that divides it.
func formatSize(n uint64) string {
	for _, u := range units {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatUint(n/u.bytes, 10) + u.name
		}
	}
	return "0B"
}

// checkName says what is wrong with the name of a resource or server: it stands
// in tables, logs and commands, and in the built-in configuration in a path.
func checkName(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > 64:
		return "is longer than 64 characters"
	case name[0] == '.' || name[0] == '-':
		return "starts with a dot or hyphen"
	case strings.ContainsFunc(name, func(r rune) bool { return !isWordRune(r) && r != '.' && r != ':' }):
		return "has characters other than letters, digits, '.', ':', '_' and '-'"
	}
	return ""
}

// checkHost says what is wrong with a host name or IP address without a port.
func checkHost(host string) string {
	bare := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	switch {
	case host == "":
		return "is empty"
	case len(host) > 255:
		return "is longer than 255 characters"
	case strings.ContainsFunc(bare, func(r rune) bool { return !isWordRune(r) && r != '.' && r != ':' && r != '%' }):
		return "is not a host name or address"
	case strings.Count(host, ":") == 1:
		return "is a host with a port; only the host belongs here"
	}
	return ""
}

func isWordRune(r rune) bool {
	return r == '_' || r == '-' || unicode.IsLetter(r) || unicode.IsDigit(r)
}

// quoted writes a value for an error message: quoted, one line, at most 80 characters.
func quoted(s string) string {
	if utf8.RuneCountInString(s) > 80 {
		s = string([]rune(s)[:79]) + "…"
	}
	return strconv.Quote(s)
}

// nearest returns `; did you mean "..."?` where one of known differs from name
// in at most two characters, else "".
func nearest(name string, known []string) string {
	best, found := 3, ""
	slices.Sort(known)
	for _, k := range known {
		if d := distance(name, k, best); d < best {
			best, found = d, k
		}
	}
	if found == "" {
		return ""
	}
	return "; did you mean " + found + "?"
}

// distance counts the insertions, deletions and replacements between a and b,
// and stops counting at limit.
func distance(a, b string, limit int) int {
	if len(a) > 128 || len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(row[j]+1, prev[j+1]+1, prev[j]+cost)
		}
		prev = row
	}
	return prev[len(b)]
}

func keysOf[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}
