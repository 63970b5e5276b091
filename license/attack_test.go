package license_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/terracotta-go/terracotta/license"
)

// Each attack changes a valid document. Those that stop at the signature
// alone prove little, so the ones about form are also signed again with the
// trusted key where the issuer's tool allows it: the form itself must be refused.

var licenseKey = regexp.MustCompile(`<LicenseKey>[^<]*</LicenseKey>`)

// attack verifies the changed document and fails unless the reason holds want.
func attack(t *testing.T, want string, change func(doc string) string) *license.Error {
	t.Helper()
	original := string(signed(t, terms()))
	doc := change(original)
	if doc == original {
		t.Fatal("the attack changed nothing")
	}
	_, err := license.Verify([]byte(doc), testKeys(t))
	return refused(t, err, want)
}

// signedAttack signs the changed document by hand, as an issuer's careless
// tool would: the signature fits, and still the form must be refused.
func signedAttack(t *testing.T, want string, change func(doc string) string) {
	t.Helper()
	doc := change(string(signed(t, terms())))
	at := regexp.MustCompile(`ed25519:test-1:`).FindStringIndex(doc)[1]
	message := "terracotta-go license v1\n" + doc[:at] + doc[at+88:]
	signature := base64.StdEncoding.EncodeToString(ed25519.Sign(testKey(0), []byte(message)))
	_, err := license.Verify([]byte(doc[:at]+signature+doc[at+88:]), testKeys(t))
	refused(t, err, want)
}

func replace(old, new string) func(string) string {
	return func(doc string) string { return strings.Replace(doc, old, new, 1) }
}

func TestAttackWrappedInAnotherDocument(t *testing.T) {
	wrap := func(doc string) string {
		body := strings.TrimPrefix(doc, `<?xml version="1.0" encoding="UTF-8"?>`+"\n")
		forged := licenseKey.ReplaceAllString(strings.Replace(body, ">50<", ">5000<", 1), "<Nothing></Nothing>")
		return `<?xml version="1.0" encoding="UTF-8"?>` + "\n<Wrapper>\n" + forged + body + "</Wrapper>\n"
	}
	attack(t, "signature does not fit", wrap)
	signedAttack(t, "its root must be one <TerracottaGoLicense>", wrap)
}

func TestAttackDoubledLicenseKey(t *testing.T) {
	double := func(doc string) string { k := licenseKey.FindString(doc); return strings.Replace(doc, k, k+k, 1) }
	attack(t, "LicenseKey occurs 4 times", double)
	signedAttack(t, "LicenseKey occurs 4 times", double)
}

func TestAttackCaseChangedLicenseKey(t *testing.T) {
	attack(t, "LicenseKey occurs 0 times", func(doc string) string { return strings.ReplaceAll(doc, "LicenseKey", "licensekey") })
	added := replace("<CustomerID>", "<licensekey>x</licensekey><CustomerID>")
	attack(t, "signature does not fit", added)
	signedAttack(t, "unknown field <licensekey>", added)
}

func TestAttackLicenseKeyInAComment(t *testing.T) {
	hide := func(doc string) string {
		k := licenseKey.FindString(doc)
		return strings.Replace(doc, k, "<!--"+k+"-->", 1)
	}
	attack(t, "signature does not fit", hide)
	signedAttack(t, "no field <LicenseKey>", hide)
}

func TestAttackLicenseKeyInAnotherComponent(t *testing.T) {
	move := func(doc string) string {
		k := licenseKey.FindString(doc)
		return strings.Replace(strings.Replace(doc, k, "", 1), "<OS>", k+"<OS>", 1)
	}
	attack(t, "signature does not fit", move)
	signedAttack(t, "no field <LicenseKey>", move)
}

func TestAttackLicenseKeyWithAnAttribute(t *testing.T) {
	attack(t, "no <LicenseKey> element", replace("<LicenseKey>", `<LicenseKey a="b">`))
}

func TestAttackSecondRoot(t *testing.T) {
	second := func(doc string) string { return doc + "<TerracottaGoLicense></TerracottaGoLicense>\n" }
	attack(t, "signature does not fit", second)
	signedAttack(t, "root", second)
}

func TestAttackCommentInAField(t *testing.T) {
	split := replace("<PriceQuantity>50<", "<PriceQuantity>50<!-- -->0<")
	attack(t, "signature does not fit", split)
	signedAttack(t, "no comment, CDATA or element", split)
}

func TestAttackCDATAInAField(t *testing.T) {
	attack(t, "no CDATA", replace("<PriceQuantity>50<", "<PriceQuantity>50<![CDATA[0]]><"))
	signedAttack(t, "no CDATA", replace("<PriceQuantity>50<", "<PriceQuantity><![CDATA[5000]]><"))
}

func TestAttackElementInAField(t *testing.T) {
	signedAttack(t, "no comment, CDATA or element", replace("<PriceQuantity>50<", "<PriceQuantity>50<a></a><"))
}

func TestAttackDuplicateField(t *testing.T) {
	twice := replace("<PriceQuantity>50</PriceQuantity>", "<PriceQuantity>5000</PriceQuantity><PriceQuantity>50</PriceQuantity>")
	attack(t, "signature does not fit", twice)
	signedAttack(t, "two fields <PriceQuantity>", twice)
}

func TestAttackDuplicateComponent(t *testing.T) {
	signedAttack(t, `two components "LicenseInfo"`, func(doc string) string {
		c := regexp.MustCompile(`(?s)<Component Id="LicenseInfo">.*?</Component>`).FindString(doc)
		return strings.Replace(doc, c, c+c, 1)
	})
}

func TestAttackDuplicateAttribute(t *testing.T) {
	signedAttack(t, "must be <Component Id=", replace(`Id="LicenseInfo"`, `Id="LicenseInfo" Id="Other"`))
}

func TestAttackUnknownFieldOrComponent(t *testing.T) {
	signedAttack(t, "unknown field <More>", replace("<OS>", "<More>1</More><OS>"))
	signedAttack(t, `unknown component "More"`, replace(`</TerracottaGoLicense>`, `<Component Id="More"></Component></TerracottaGoLicense>`))
}

func TestAttackNamespacedTwin(t *testing.T) {
	signedAttack(t, "prefix", replace("<OS>any</OS>", "<x:OS>any</x:OS>"))
	signedAttack(t, "without attributes", replace("<TerracottaGoLicense>", `<TerracottaGoLicense xmlns="other">`))
}

func TestAttackTextBetweenElements(t *testing.T) {
	signedAttack(t, "text between the elements", replace("<OS>", "x<OS>"))
}

func TestAttackDOCTYPE(t *testing.T) {
	attack(t, "DOCTYPE", replace("<TerracottaGoLicense>", "<!DOCTYPE TerracottaGoLicense><TerracottaGoLicense>"))
	signedAttack(t, "DOCTYPE", replace("<TerracottaGoLicense>", `<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><TerracottaGoLicense>`))
}

func TestAttackEntity(t *testing.T) {
	attack(t, "no entities", replace(">50<", ">&fifty;<"))
	signedAttack(t, "no entities", replace(">50<", ">&#53;&#48;<"))
	signedAttack(t, "no entities", replace(">any<", ">&amp<"))
}

func TestAttackProcessingInstruction(t *testing.T) {
	signedAttack(t, "processing instructions", replace("<OS>", "<?php ?><OS>"))
}

func TestAttackByteOrderMark(t *testing.T) {
	attack(t, "byte order mark", func(doc string) string { return "\ufeff" + doc })
}

func TestAttackOtherEncodings(t *testing.T) {
	for _, bigEndian := range []bool{false, true} {
		for _, mark := range []string{"", "\ufeff"} {
			attack(t, "UTF-16", func(doc string) string {
				var b bytes.Buffer
				for _, unit := range utf16.Encode([]rune(mark + doc)) {
					if bigEndian {
						b.Write([]byte{byte(unit >> 8), byte(unit)})
					} else {
						b.Write([]byte{byte(unit), byte(unit >> 8)})
					}
				}
				return b.String()
			})
		}
	}
	attack(t, "not UTF-8", func(doc string) string { return strings.Replace(doc, "ö", "\xf6", 1) })
	attack(t, "does not begin with", replace(`encoding="UTF-8"`, `encoding="ISO-8859-1"`))
	attack(t, "does not begin with", replace(`<?xml version="1.0" encoding="UTF-8"?>`+"\n", ""))
}

func TestAttackNULByte(t *testing.T) {
	attack(t, "NUL bytes", func(doc string) string { return doc + "\x00" })
}

func TestCRLFRewritingIsRefusedWithAHint(t *testing.T) {
	e := attack(t, "carriage returns", func(doc string) string { return strings.ReplaceAll(doc, "\n", "\r\n") })
	if !strings.Contains(e.Hint, "line ends were changed; download it again in binary") {
		t.Errorf("hint is %q", e.Hint)
	}
}

func TestHTMLPageIsRefusedWithAHint(t *testing.T) {
	_, err := license.Verify([]byte("\n<!DOCTYPE html>\r\n<html><title>Log in</title></html>"), testKeys(t))
	if e := refused(t, err, "HTML page"); !strings.Contains(e.Hint, "login page") {
		t.Errorf("hint is %q", e.Hint)
	}
}

func TestAttackUnknownKey(t *testing.T) {
	e := attack(t, `key "other", which is not trusted`, replace("ed25519:test-1:", "ed25519:other:"))
	if !strings.Contains(e.Hint, "trusted keys: test-1") {
		t.Errorf("hint is %q", e.Hint)
	}
	attack(t, `key "dev-12345678", which is not trusted`, replace("ed25519:test-1:", "ed25519:dev-12345678:"))
}

func TestAttackSignedByAnotherKeyUnderTheTrustedID(t *testing.T) {
	forged, err := license.Sign(mustDraft(t, terms()), keyID, testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	_, err = license.Verify(forged, testKeys(t))
	refused(t, err, "signature does not fit")
}

func TestAttackSignatureForAnotherPurpose(t *testing.T) {
	// The same key over the same bytes, but without the domain before them.
	doc := string(signed(t, terms()))
	at := strings.Index(doc, "ed25519:test-1:") + len("ed25519:test-1:")
	signature := base64.StdEncoding.EncodeToString(ed25519.Sign(testKey(0), []byte(doc[:at]+doc[at+88:])))
	_, err := license.Verify([]byte(doc[:at]+signature+doc[at+88:]), testKeys(t))
	refused(t, err, "signature does not fit")
}

func TestAttackSameSignatureUnderASecondTrustedID(t *testing.T) {
	keys := trust(t, map[string]string{
		keyID + ".pem":  string(publicPEM(t, testKey(0).Public())),
		"test-2.pem":    string(publicPEM(t, testKey(1).Public())),
		"README.md":     "not a key",
		".hidden":       "not a key",
		"sub/other.pem": "not looked at",
	})
	doc := strings.Replace(string(signed(t, terms())), "ed25519:test-1:", "ed25519:test-2:", 1)
	_, err := license.Verify([]byte(doc), keys)
	refused(t, err, "signature does not fit")
}

func TestRevokedKey(t *testing.T) {
	keys := trust(t, map[string]string{keyID + ".pem": string(publicPEM(t, testKey(0).Public())), "revoked": "# lost\n\nkey test-1\r\n"})
	_, err := license.Verify(signed(t, terms()), keys)
	refused(t, err, `key "test-1" is revoked`)
	if ids := keys.IDs(); len(ids) != 0 {
		t.Errorf("revoked keys are listed as trusted: %v", ids)
	}
}

func TestRevokedSerialNumber(t *testing.T) {
	keys := trust(t, map[string]string{keyID + ".pem": string(publicPEM(t, testKey(0).Public())), "revoked": "serial 2026-0001\n"})
	_, err := license.Verify(signed(t, terms()), keys)
	refused(t, err, `serial number "2026-0001" is revoked`)
}

func TestAttackKeyIDAsAPath(t *testing.T) {
	for _, id := range []string{"../../tmp/evil", "/tmp/evil", "test-1.pem", "TEST-1", "-", "", strings.Repeat("a", 32), "a\x2fb"} {
		attack(t, "LicenseKey is not ed25519:KEYID:", replace("ed25519:test-1:", "ed25519:"+id+":"))
	}
}

func TestAttackAnotherAlgorithm(t *testing.T) {
	for _, algorithm := range []string{"none", "hmac", "rsa", "Ed25519", "ed25519ph", ""} {
		attack(t, "LicenseKey is not ed25519:KEYID:", replace("ed25519:test-1:", algorithm+":test-1:"))
	}
}

func TestAttackOversize(t *testing.T) {
	big := func(doc string) string { return doc + strings.Repeat("\n", license.MaxSize+1-len(doc)) }
	attack(t, "larger than 65536 bytes", big)
	fits := func(doc string) string { return doc + strings.Repeat("\n", license.MaxSize-len(doc)) }
	attack(t, "signature does not fit", fits)
}

func TestAttackDeepNesting(t *testing.T) {
	deep := func(doc string) string {
		return strings.Replace(doc, "<OS>any", "<OS>any"+strings.Repeat("<a>", 5000)+strings.Repeat("</a>", 5000), 1)
	}
	attack(t, "signature does not fit", deep)
	signedAttack(t, "depth", deep)
}

func TestAttackUnclosedRoot(t *testing.T) {
	signedAttack(t, "not well-formed", replace("</TerracottaGoLicense>", ""))
}

func TestAttackTrailingBytes(t *testing.T) {
	for _, tail := range []string{"\n", " ", "x", "<!-- -->", "<a/>", "\x1a", "]]>"} {
		doc := string(signed(t, terms())) + tail
		if _, err := license.Verify([]byte(doc), testKeys(t)); err == nil {
			t.Errorf("accepted with %q after its end", tail)
		}
	}
}

func TestAttackNewlineInTheBase64(t *testing.T) {
	for _, gap := range []string{"\n", "\r\n", " ", "\t", "=", "&amp;"} {
		doc := string(signed(t, terms()))
		at := strings.Index(doc, "ed25519:test-1:") + 40
		if _, err := license.Verify([]byte(doc[:at]+gap+doc[at:]), testKeys(t)); err == nil {
			t.Errorf("accepted with %q in the base64", gap)
		}
	}
}

func TestAttackSecondSpellingOfTheBase64(t *testing.T) {
	// The last character before == carries four bits that a lax decoder ignores.
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	doc := string(signed(t, terms()))
	at := strings.Index(doc, "==</LicenseKey>") - 1
	value := strings.IndexByte(alphabet, doc[at])
	for bits := 1; bits < 16; bits++ {
		_, err := license.Verify([]byte(doc[:at]+string(alphabet[value|bits])+doc[at+1:]), testKeys(t))
		refused(t, err, "one proper spelling")
	}
}

func TestAttackMalleatedSignature(t *testing.T) {
	// S plus the group's order L is the same number to a careless verifier (RFC 8032 section 5.1.7).
	order := []byte{0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 31: 0x10}
	doc := string(signed(t, terms()))
	at := strings.Index(doc, "ed25519:test-1:") + len("ed25519:test-1:")
	signature, err := base64.StdEncoding.DecodeString(doc[at : at+88])
	if err != nil {
		t.Fatal(err)
	}
	carry := 0
	for i := range 32 {
		carry += int(signature[32+i]) + int(order[i])
		signature[32+i], carry = byte(carry), carry>>8
	}
	_, err = license.Verify([]byte(doc[:at]+base64.StdEncoding.EncodeToString(signature)+doc[at+88:]), testKeys(t))
	refused(t, err, "signature does not fit")
}

func TestNoTrustedKeyTrustsNobody(t *testing.T) {
	doc := signed(t, terms())
	_, err := license.Verify(doc, trust(t, nil))
	refused(t, err, "no key is trusted")
	_, err = license.Verify(doc, nil)
	refused(t, err, "no key is trusted")
}

func TestADamagedTrustStoreTrustsNobody(t *testing.T) {
	good := string(publicPEM(t, testKey(0).Public()))
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]map[string]string{
		"not PEM":                  {"bad.pem": "hello"},
		"empty":                    {"bad.pem": ""},
		"private key":              {"bad.pem": "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n"},
		"another kind of key":      {"bad.pem": string(publicPEM(t, curve.Public()))},
		"two keys in one file":     {"bad.pem": good + string(publicPEM(t, testKey(1).Public()))},
		"text before the key":      {"bad.pem": "# my key\n" + good},
		"upper case name":          {"Bad.pem": good},
		"upper case ending":        {"bad.PEM": good},
		"hidden name":              {".bad.pem": good},
		"one key under two ids":    {"a.pem": good, "b.pem": good},
		"too large":                {"bad.pem": good + strings.Repeat("\n", 65<<10)},
		"a folder":                 {"bad.pem/x": good},
		"revoked is a folder":      {"revoked/x": "key a\n"},
		"revoked: unknown word":    {"revoked": "kex a\n"},
		"revoked: id out of form":  {"revoked": "key ../a\n"},
		"revoked: three words":     {"revoked": "key a b\n"},
		"revoked: id with capital": {"revoked": "key Test-1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := mapFS(files)
			if name != "one key under two ids" {
				fsys["good.pem"] = mapFile(publicPEM(t, testKey(2).Public()))
			}
			if keys, err := license.ReadKeys(fsys); err == nil {
				t.Errorf("read as %v", keys.IDs())
			}
		})
	}
}
