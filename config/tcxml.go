package config

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/beevik/etree"
)

// Limits of a tc-config.xml.
const (
	maxTCConfig   = 256 << 10 // bytes
	maxTCDepth    = 16
	maxTCElements = 4096
)

// xmlTree is a small, strict XML document whose elements know where they stand.
type xmlTree struct {
	root *etree.Element
	at   map[*etree.Element]string // element -> line:column of its "<"
}

// xmlFault says what is wrong with a document and where.
type xmlFault struct{ at, problem string }

func (e *xmlFault) Error() string { return e.at + ": " + e.problem }

// readXML reads a document without DOCTYPE, entities and foreign encodings. etree
// holds no positions, so a first pass notes where each element starts; it also
// refuses what etree would read over: directives, repeated attributes, a second root.
func readXML(doc []byte) (xmlTree, error) {
	if len(doc) > maxTCConfig {
		return xmlTree{}, &xmlFault{"1:1", fmt.Sprintf("is larger than %d KiB", maxTCConfig>>10)}
	}
	doc = bytes.TrimPrefix(doc, []byte("\xef\xbb\xbf")) // Windows editors write a byte order mark
	starts, err := scanXML(doc)
	if err != nil {
		return xmlTree{}, err
	}
	tree := etree.NewDocument()
	tree.ReadSettings.MaxDepth = maxTCDepth + 1
	if err := tree.ReadFromBytes(doc); err != nil {
		return xmlTree{}, &xmlFault{"1:1", fmt.Sprintf("is not XML: %v", err)}
	}
	t := xmlTree{root: tree.Root(), at: make(map[*etree.Element]string, len(starts))}
	var walk func(e *etree.Element)
	walk = func(e *etree.Element) {
		if len(t.at) < len(starts) {
			t.at[e] = starts[len(t.at)]
		}
		for _, child := range e.ChildElements() {
			walk(child)
		}
	}
	walk(t.root)
	return t, nil
}

// scanXML returns line:column of every start tag in document order.
func scanXML(doc []byte) ([]string, error) {
	dec := xml.NewDecoder(bytes.NewReader(doc))
	var starts []string
	depth := 0
	for {
		at := position(dec)
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			var syntax *xml.SyntaxError
			problem := err.Error()
			if errors.As(err, &syntax) {
				problem = syntax.Msg
			}
			return nil, &xmlFault{position(dec), "is not XML: " + problem}
		}
		switch token := token.(type) {
		case xml.Directive:
			return nil, &xmlFault{at, "DOCTYPE and other declarations are not read"}
		case xml.CharData:
			if depth == 0 && len(bytes.TrimSpace(token)) > 0 {
				return nil, &xmlFault{at, "text outside of the root element"}
			}
		case xml.StartElement:
			if depth == 0 && len(starts) > 0 {
				return nil, &xmlFault{at, "a second root element"}
			}
			if depth++; depth > maxTCDepth {
				return nil, &xmlFault{at, fmt.Sprintf("elements are nested more than %d deep", maxTCDepth)}
			}
			if len(starts) == maxTCElements {
				return nil, &xmlFault{at, fmt.Sprintf("more than %d elements", maxTCElements)}
			}
			seen := map[xml.Name]bool{}
			for _, a := range token.Attr {
				if seen[a.Name] {
					return nil, &xmlFault{at, "attribute " + quoted(a.Name.Local) + " stands twice"}
				}
				seen[a.Name] = true
			}
			starts = append(starts, at)
		case xml.EndElement:
			depth--
		}
	}
	if len(starts) == 0 {
		return nil, &xmlFault{"1:1", "is empty"}
	}
	return starts, nil
}

// position is line:column of the next byte. A decoder that has put a line end
// back counts column 0.
func position(dec *xml.Decoder) string {
	line, column := dec.InputPos()
	return fmt.Sprintf("%d:%d", line, max(column, 1))
}

// elementText returns all text of an element without elements in it; comments
// in between are skipped.
func elementText(e *etree.Element) string {
	var b strings.Builder
	for _, token := range e.Child {
		if text, ok := token.(*etree.CharData); ok {
			b.WriteString(text.Data)
		}
	}
	return strings.TrimSpace(b.String())
}

// substitute replaces %h %i %H %n %t, %(property) and %% in s.
func substitute(s string, vars func(string) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "%")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, rest := "", ""
		switch {
		case strings.HasPrefix(after, "%"):
			b.WriteByte('%')
			s = after[1:]
			continue
		case strings.HasPrefix(after, "("):
			end := strings.IndexByte(after, ')')
			if end < 0 {
				return "", errors.New("%( is never closed")
			}
			name, rest = after[1:end], after[end+1:]
		case after != "" && strings.Contains("hiHnt", after[:1]):
			name, rest = "%"+after[:1], after[1:]
		default:
			return "", errors.New("% starts a substitution, one of %h %i %H %n %t %(property); write %% for a percent sign")
		}
		text, ok := "", false
		if vars != nil {
			text, ok = vars(name)
		}
		if !ok && strings.HasPrefix(name, "%") {
			return "", fmt.Errorf("%s has no value here", name)
		}
		if !ok {
			return "", fmt.Errorf("property %s has no value: set it with JAVA_OPTS=-D%s=VALUE", quoted(name), name)
		}
		b.WriteString(text)
		s = rest
	}
}
