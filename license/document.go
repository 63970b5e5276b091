package license

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/beevik/etree"
)

const (
	rootElement   = "TerracottaGoLicense"
	formatVersion = "1" // LicenseVersion: of the document's form
	priceUnit     = "GBS"
	dateForm      = "2006/01/02"
	unlimited     = "Unlimited"
	gigabyte      = 1 << 30
	maxGigabytes  = 1 << 30 // an exbibyte: keeps the limit in bytes far from overflow
	maxDepth      = 3       // root, Component, field
)

// field is one element of the document. read takes its text into the licence,
// write gives it; read refuses what write would not have written.
type field struct {
	name  string
	read  func(l *License, text string) error
	write func(l *License) string
}

// component is one <Component Id="...">; its fields stand in the order in
// which Draft writes them. Each is required once; readers accept any order.
type component struct {
	id     string
	fields []field
}

// schema returns the whole form of a document. seal is the text of LicenseKey,
// which belongs to the signature and not to the terms.
func schema(seal string) []component {
	terracotta := []field{
		same("ProductCode", func(l *License) string { return l.ProductCode }),
		same("ProductVersion", func(l *License) string { return l.ProductVersion }),
	}
	for _, name := range FlagNames() {
		terracotta = append(terracotta, flag(name))
	}
	return []component{
		{"SalesInfo", []field{
			serial(),
			same(element, func(*License) string { return seal }),
			text("CustomerID", func(l *License) *string { return &l.CustomerID }),
			text("CustomerName", func(l *License) *string { return &l.CustomerName }),
			text("ContractDetails", func(l *License) *string { return &l.ContractDetails }),
			text("LicenseTypeDetails", func(l *License) *string { return &l.LicenseTypeDetails }),
		}},
		{"ProductInfo", []field{
			{"ExpirationDate", readExpiration, (*License).Expires},
			text("OS", func(l *License) *string { return &l.OS }),
			text("ProductCode", func(l *License) *string { return &l.ProductCode }),
			text("ProductName", func(l *License) *string { return &l.ProductName }),
			text("ProductVersion", func(l *License) *string { return &l.ProductVersion }),
			text("Usage", func(l *License) *string { return &l.Usage }),
			text("RenewalDate", func(l *License) *string { return &l.Renewal }),
		}},
		{"LicenseInfo", []field{
			same("PriceUnit", func(*License) string { return priceUnit }),
			{"PriceQuantity", readQuantity, func(l *License) string { return strconv.FormatUint(l.OffheapLimit/gigabyte, 10) }},
			text("LicenseType", func(l *License) *string { return &l.LicenseType }),
			{"LicenseVersion", readVersion, func(l *License) string { return formatVersion }},
		}},
		{"Terracotta", terracotta},
	}
}

// text is a field that is shown, or compared later by Allow.
func text(name string, at func(*License) *string) field {
	return field{name,
		func(l *License, text string) error { *at(l) = text; return nil },
		func(l *License) string { return *at(l) }}
}

// same is a field whose text must be what want says of what was read before it.
func same(name string, want func(*License) string) field {
	return field{name, func(l *License, text string) error {
		if w := want(l); text != w {
			return fmt.Errorf("must be %q", w)
		}
		return nil
	}, want}
}

func flag(name string) field {
	return field{name, func(l *License, text string) error {
		if text != "yes" && text != "no" {
			return errors.New("must be yes or no")
		}
		l.Flags[name] = text == "yes"
		return nil
	}, func(l *License) string {
		if l.Flags[name] {
			return "yes"
		}
		return "no"
	}}
}

func serial() field {
	return field{"SerialNumber", func(l *License, text string) error {
		if !serialForm.MatchString(text) {
			return errors.New("must be 1 to 64 letters, digits, dots, hyphens and underscores")
		}
		l.SerialNumber = text
		return nil
	}, func(l *License) string { return l.SerialNumber }}
}

func readExpiration(l *License, text string) error {
	if text == unlimited {
		return nil
	}
	day, err := time.Parse(dateForm, text)
	if err != nil || day.Format(dateForm) != text {
		return errors.New("must be yyyy/MM/dd or Unlimited")
	}
	l.Expiration = day.AddDate(0, 0, 1)
	return nil
}

func readQuantity(l *License, text string) error {
	quantity, err := strconv.ParseUint(text, 10, 64)
	if err != nil || quantity == 0 || quantity > maxGigabytes || strconv.FormatUint(quantity, 10) != text {
		return fmt.Errorf("must be a whole number of GB, 1 to %d", maxGigabytes)
	}
	l.OffheapLimit = quantity * gigabyte
	return nil
}

func readVersion(l *License, text string) error {
	if text != formatVersion {
		return fmt.Errorf("must be %q: a newer kind of licence needs a newer version of this product", formatVersion)
	}
	l.LicenseVersion = text
	return nil
}

// Draft writes l as an unsigned document that names keyID and is ready for
// Sign. OffheapLimit must be a whole number of GB; of the signature's fields
// and LicenseVersion it takes nothing.
func Draft(l License, keyID string) ([]byte, error) {
	if !ValidKeyID(keyID) {
		return nil, refuse("", "%q is not a key id", keyID)
	}
	if l.OffheapLimit%gigabyte != 0 {
		return nil, refuse("", "the off-heap limit of %d bytes is not a whole number of GB", l.OffheapLimit)
	}
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	placeholder := algorithm + ":" + keyID + ":" + strings.Repeat("A", signatureChars-2) + "=="
	var b strings.Builder
	b.WriteString(prolog + "\n<" + rootElement + ">\n")
	for _, c := range schema(placeholder) {
		b.WriteString(`  <Component Id="` + c.id + "\">\n")
		for _, f := range c.fields {
			b.WriteString("    <" + f.name + ">" + escape.Replace(f.write(&l)) + "</" + f.name + ">\n")
		}
		b.WriteString("  </Component>\n")
	}
	b.WriteString("</" + rootElement + ">\n")
	doc := []byte(b.String())
	if _, err := Inspect(doc); err != nil { // says which field holds what it can't
		return nil, err
	}
	return doc, nil
}

// parse reads the fields of a document that went through checkBytes and
// findSeal.
func parse(doc []byte, s seal) (*License, error) {
	tree := etree.NewDocument()
	tree.ReadSettings = etree.ReadSettings{PreserveCData: true, PreserveDuplicateAttrs: true, MaxDepth: maxDepth + 1}
	if err := tree.ReadFromBytes(doc); err != nil {
		return nil, refuse("use the original file as the issuer sent it", "the licence is not well-formed XML: %v", err)
	}
	l := &License{KeyID: s.keyID, SHA256: digest(doc), Flags: map[string]bool{}}
	if err := readDocument(l, tree, schema(s.text)); err != nil {
		return nil, refuse("use the original file as the issuer sent it", "the licence is malformed: %v", err)
	}
	return l, nil
}

func readDocument(l *License, tree *etree.Document, want []component) error {
	tops, err := elements(&tree.Element)
	if err != nil {
		return err
	}
	if len(tops) != 1 || tops[0].Tag != rootElement || tops[0].Space != "" || len(tops[0].Attr) != 0 {
		return fmt.Errorf("its root must be one <%s> without attributes", rootElement)
	}
	found, err := elements(tops[0])
	if err != nil {
		return err
	}
	byID := map[string]*etree.Element{} // component id -> element
	for _, e := range found {
		if e.Tag != "Component" || e.Space != "" || len(e.Attr) != 1 || e.Attr[0].Key != "Id" || e.Attr[0].Space != "" {
			return fmt.Errorf("<%s> must be <Component Id=\"...\">", e.FullTag())
		}
		id := e.Attr[0].Value
		if byID[id] != nil {
			return fmt.Errorf("two components %q", id)
		}
		byID[id] = e
	}
	for _, c := range want {
		e := byID[c.id]
		if e == nil {
			return fmt.Errorf("no component %q", c.id)
		}
		delete(byID, c.id)
		if err := readComponent(l, e, c.fields); err != nil {
			return fmt.Errorf("component %q: %w", c.id, err)
		}
	}
	for id := range byID {
		return fmt.Errorf("unknown component %q", id)
	}
	return nil
}

func readComponent(l *License, e *etree.Element, fields []field) error {
	found, err := elements(e)
	if err != nil {
		return err
	}
	texts := map[string]string{} // field name -> text
	for _, f := range found {
		if _, twice := texts[f.Tag]; twice {
			return fmt.Errorf("two fields <%s>", f.Tag)
		}
		if texts[f.Tag], err = fieldText(f); err != nil {
			return fmt.Errorf("<%s>: %w", f.FullTag(), err)
		}
	}
	for _, f := range fields {
		value, there := texts[f.name]
		if !there {
			return fmt.Errorf("no field <%s>", f.name)
		}
		delete(texts, f.name)
		if err := f.read(l, value); err != nil {
			return fmt.Errorf("<%s>: %w", f.name, err)
		}
	}
	for name := range texts {
		return fmt.Errorf("unknown field <%s>", name)
	}
	return nil
}

// elements returns the child elements of e, beside which only white space, comments
// and the prolog may stand.
func elements(e *etree.Element) ([]*etree.Element, error) {
	var found []*etree.Element
	for _, token := range e.Child {
		switch t := token.(type) {
		case *etree.Element:
			found = append(found, t)
		case *etree.Comment, *etree.ProcInst: // checkMarkup lets no other ProcInst than the prolog pass
		case *etree.CharData:
			if !t.IsWhitespace() {
				return nil, errors.New("text between the elements")
			}
		default:
			return nil, fmt.Errorf("unexpected %T", token)
		}
	}
	return found, nil
}

// fieldText returns the text of an element that has nothing but one.
func fieldText(e *etree.Element) (string, error) {
	if e.Space != "" || len(e.Attr) != 0 {
		return "", errors.New("a field has neither prefix nor attributes")
	}
	if len(e.Child) == 0 {
		return "", nil
	}
	data, ok := e.Child[0].(*etree.CharData)
	if len(e.Child) != 1 || !ok || data.IsCData() {
		return "", errors.New("a field holds plain text, no comment, CDATA or element")
	}
	if strings.TrimSpace(data.Data) != data.Data || strings.ContainsAny(data.Data, "\n\t") {
		return "", errors.New("white space around the text, or a line end in it")
	}
	return data.Data, nil
}
