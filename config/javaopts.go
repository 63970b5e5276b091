package config

import (
	"fmt"
	"strings"
)

// maxJavaOpts bounds JAVA_OPTS, in bytes.
const maxJavaOpts = 64 << 10

// javaOpts is what a JAVA_OPTS line says.
type javaOpts struct {
	props   map[string]string // property name -> value; the last one wins, as in Java
	ignored []string          // words that are not -Dname=value, without what follows an =
}

// parseJavaOpts splits a JAVA_OPTS line into properties. Quoting is a shell's:
// white space separates words, '...' is literal, "..." knows \" and \\, and
// outside of quotes a backslash takes the next character literally.
func parseJavaOpts(line string) (javaOpts, error) {
	opts := javaOpts{props: map[string]string{}}
	words, err := splitWords(line)
	if err != nil {
		return opts, err
	}
	for _, w := range words {
		body, isProperty := strings.CutPrefix(w, "-D")
		name, value, _ := strings.Cut(body, "=")
		if !isProperty || name == "" {
			// What stands behind the = or : of a foreign option may be a secret.
			if i := strings.IndexAny(w, "=:"); i >= 0 {
				w = w[:i+1] + "..."
			}
			opts.ignored = append(opts.ignored, w)
			continue
		}
		opts.props[name] = value
	}
	return opts, nil
}

// splitWords splits line as a shell does, without expanding anything.
func splitWords(line string) ([]string, error) {
	if len(line) > maxJavaOpts {
		return nil, fmt.Errorf("has %d bytes, at most %d are read", len(line), maxJavaOpts)
	}
	if strings.ContainsRune(line, 0) {
		return nil, fmt.Errorf("contains a zero byte")
	}
	var words []string
	var word strings.Builder
	inWord, quote := false, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == '\'' && c != '\'':
			word.WriteByte(c)
		case c == quote && quote != 0:
			quote = 0
		case c == '\\':
			i++
			if i == len(line) {
				return nil, fmt.Errorf("ends in a backslash")
			}
			if quote == '"' && line[i] != '"' && line[i] != '\\' {
				word.WriteByte('\\')
			}
			word.WriteByte(line[i])
			inWord = true
		case quote == '"':
			word.WriteByte(c)
		case c == '\'' || c == '"':
			quote, inWord = c, true
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a %c is never closed", quote)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
