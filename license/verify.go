package license

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxSize is the size of the largest licence in bytes.
const MaxSize = 64 << 10

const (
	// domain stands before the signed bytes, so that a signature made with the
	// same key for another purpose can never pass for a licence.
	domain         = "terracotta-go license v1\n"
	prolog         = `<?xml version="1.0" encoding="UTF-8"?>`
	element        = "LicenseKey"
	algorithm      = "ed25519"
	signatureChars = 88 // base64 characters of a signature
)

var (
	keyForm = regexp.MustCompile(`\A` + algorithm + `:([a-z0-9][a-z0-9-]{0,30}):([A-Za-z0-9+/]{86}==)\z`)
	// Only what XML itself predefines: a document that means the same with and
	// without an entity would be two documents.
	entityForm = regexp.MustCompile(`\A&(amp|lt|gt|quot|apos);`)
)

// Verify checks the signature over the exact bytes, then parses them. It does
// not look at the time. Errors are *Error.
func Verify(doc []byte, keys *Keys) (*License, error) {
	if err := checkBytes(doc); err != nil {
		return nil, err
	}
	s, err := findSeal(doc)
	if err != nil {
		return nil, err
	}
	if keys == nil || len(keys.byID) == 0 {
		return nil, refuse("put the issuer's public key into the directory of trusted keys", "no key is trusted here")
	}
	key, known := keys.byID[s.keyID]
	switch {
	case keys.revokedKeys[s.keyID]:
		return nil, refuse("ask the issuer for a licence signed with a current key", "key %q is revoked", s.keyID)
	case !known:
		return nil, refuse(unknownKeyHint(s.keyID, keys), "the licence is signed with key %q, which is not trusted here", s.keyID)
	case !ed25519.Verify(key, s.message(doc), s.signature):
		return nil, refuse("the document was changed after it was signed, or another key signed it: use the original file",
			"the signature does not fit the document (key %q)", s.keyID)
	}
	l, err := parse(doc, s)
	if err != nil {
		return nil, err
	}
	if keys.revokedSerials[l.SerialNumber] {
		return nil, refuse("ask the issuer for a new licence", "the licence with serial number %q is revoked", l.SerialNumber)
	}
	return l, nil
}

func unknownKeyHint(id string, keys *Keys) string {
	trusted := "trusted keys: " + strings.Join(keys.IDs(), ", ")
	if Development(id) {
		return "a development licence works only with images that the same user has built (make images); " + trusted
	}
	return "mount the issuer's public key, or use a licence of an issuer that is trusted; " + trusted
}

// Inspect parses the document without trusting it: for show only. Nothing in
// what it returns was verified. Errors are *Error.
func Inspect(doc []byte) (*License, error) {
	if err := checkBytes(doc); err != nil {
		return nil, err
	}
	s, err := findSeal(doc)
	if err != nil {
		return nil, err
	}
	return parse(doc, s)
}

// Sign fills in the LicenseKey of doc, whose text there is what Draft writes
// or a former signature with the same key id. It signs nothing that Verify
// would refuse, and leaves doc alone.
func Sign(doc []byte, keyID string, key ed25519.PrivateKey) ([]byte, error) {
	if err := checkBytes(doc); err != nil {
		return nil, err
	}
	s, err := findSeal(doc)
	if err != nil {
		return nil, err
	}
	if s.keyID != keyID {
		return nil, refuse("", "the document names key %q, the key to sign with is %q", s.keyID, keyID)
	}
	if len(key) != ed25519.PrivateKeySize {
		return nil, refuse("", "not an Ed25519 private key")
	}
	if _, err := parse(doc, s); err != nil {
		return nil, err
	}
	signed := bytes.Clone(doc)
	base64.StdEncoding.Encode(signed[s.start:s.end], ed25519.Sign(key, s.message(doc)))
	return signed, nil
}

// seal is the signature of a document and where its base64 stands.
type seal struct {
	keyID      string
	text       string // of the LicenseKey element
	signature  []byte
	start, end int // of the base64 in the document
}

// message returns the signed bytes: everything but the base64, after the domain.
func (s seal) message(doc []byte) []byte {
	message := make([]byte, 0, len(domain)+len(doc)-signatureChars)
	message = append(message, domain...)
	message = append(message, doc[:s.start]...)
	return append(message, doc[s.end:]...)
}

// findSeal finds the one LicenseKey by plain byte work. Its place follows from
// the signed bytes alone, so that no two documents share a signature.
func findSeal(doc []byte) (seal, error) {
	const hint = "use the original file as the issuer sent it"
	if n := bytes.Count(doc, []byte(element)); n != 2 {
		return seal{}, refuse(hint, "the word %s occurs %d times: a licence has exactly one <%s> element", element, n, element)
	}
	open, closing := []byte("<"+element+">"), []byte("</"+element+">")
	from := bytes.Index(doc, open)
	if from < 0 {
		return seal{}, refuse(hint, "no <%s> element", element)
	}
	from += len(open)
	length := bytes.Index(doc[from:], closing)
	if length < 0 {
		return seal{}, refuse(hint, "the <%s> element does not end", element)
	}
	text := doc[from : from+length]
	parts := keyForm.FindSubmatch(text)
	if parts == nil {
		return seal{}, refuse(hint, "%s is not %s:KEYID: and 88 characters of base64, without white space", element, algorithm)
	}
	s := seal{keyID: string(parts[1]), text: string(text), start: from + length - signatureChars, end: from + length}
	// Strict alone would still skip line ends, and other decoders ignore the
	// last bits: comparing the encoding leaves one spelling per signature.
	signature, err := base64.StdEncoding.Strict().DecodeString(string(parts[2]))
	if err != nil || base64.StdEncoding.EncodeToString(signature) != string(parts[2]) {
		return seal{}, refuse(hint, "the base64 of %s is not in its one proper spelling", element)
	}
	s.signature = signature
	return s, nil
}

// checkBytes refuses everything that two readers of XML might understand in
// two ways, before any of them sees it.
func checkBytes(doc []byte) error {
	const original = "use the original file as the issuer sent it"
	switch {
	case len(doc) == 0:
		return refuse("", "the licence is empty")
	case len(doc) > MaxSize:
		return refuse("is it the right file?", "the licence is larger than %d bytes", MaxSize)
	case bytes.HasPrefix(doc, []byte("\xef\xbb\xbf")):
		return refuse("an editor or a tool added it: download the file again in binary", "the licence begins with a byte order mark")
	case bytes.HasPrefix(doc, []byte("\xff\xfe")), bytes.HasPrefix(doc, []byte("\xfe\xff")), bytes.IndexByte(doc, 0) >= 0:
		return refuse("a licence is UTF-8; download the file again in binary", "the licence holds NUL bytes or is UTF-16")
	case looksLikeHTML(doc):
		return refuse("the address gave a web page, perhaps a login page: open it in a browser", "this is an HTML page, not a licence")
	case bytes.IndexByte(doc, '\r') >= 0:
		return refuse("the file's line ends were changed; download it again in binary", "the licence holds carriage returns")
	case !utf8.Valid(doc):
		return refuse("a licence is UTF-8; download the file again in binary", "the licence is not UTF-8")
	case !bytes.HasPrefix(doc, []byte(prolog)):
		return refuse(original, "the licence does not begin with %s", prolog)
	}
	return checkMarkup(string(doc[len(prolog):]))
}

func checkMarkup(text string) error {
	const original = "use the original file as the issuer sent it"
	for i, r := range text {
		switch rest := text[i:]; {
		case unicode.IsControl(r) && r != '\n' && r != '\t', unicode.Is(unicode.Bidi_Control, r):
			// They could make a terminal show another text than the one that is signed.
			return refuse(original, "the licence holds the control character %U", r)
		case strings.HasPrefix(rest, "<!DOCTYPE"):
			return refuse(original, "a licence has no DOCTYPE")
		case strings.HasPrefix(rest, "<!") && !strings.HasPrefix(rest, "<!--"):
			return refuse(original, "a licence has no CDATA sections or declarations")
		case strings.HasPrefix(rest, "<?"):
			return refuse(original, "a licence has no processing instructions")
		case r == '&' && !entityForm.MatchString(rest):
			return refuse(original, "a licence has no entities but &amp; &lt; &gt; &quot; &apos;")
		}
	}
	return nil
}

func looksLikeHTML(doc []byte) bool {
	start := strings.ToLower(string(bytes.TrimSpace(doc[:min(len(doc), 512)])))
	return strings.HasPrefix(start, "<!doctype html") || strings.HasPrefix(start, "<html")
}

func digest(doc []byte) string {
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:])
}
