package license_test

import (
	"crypto/ed25519"
	"testing"

	"github.com/terracotta-go/terracotta/license"
)

func TestFieldsOutOfFormAreRefusedThoughSigned(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"day that does not exist", "2026/12/31", "2026/02/30", "yyyy/MM/dd or Unlimited"},
		{"day in another form", "2026/12/31", "2026/1/1", "yyyy/MM/dd or Unlimited"},
		{"no day", "2026/12/31", "", "yyyy/MM/dd or Unlimited"},
		{"other case of Unlimited", "2026/12/31", "unlimited", "yyyy/MM/dd or Unlimited"},
		{"flag that is neither", "<TCStore>yes<", "<TCStore>true<", "must be yes or no"},
		{"flag in capitals", "<TCStore>yes<", "<TCStore>YES<", "must be yes or no"},
		{"quantity with a zero before", ">50<", ">050<", "whole number of GB"},
		{"quantity with a sign", ">50<", ">+50<", "whole number of GB"},
		{"quantity beyond every machine", ">50<", ">18446744073709551615<", "whole number of GB"},
		{"no quantity", ">50<", "><", "whole number of GB"},
		{"other unit", ">GBS<", ">TBS<", `must be "GBS"`},
		{"newer form", "<LicenseVersion>1<", "<LicenseVersion>2<", "newer version of this product"},
		{"two products", "<Component Id=\"Terracotta\">\n    <ProductCode>terracotta-go", "<Component Id=\"Terracotta\">\n    <ProductCode>other", `must be "terracotta-go"`},
		{"two versions", "<ProductVersion>10.4</ProductVersion>\n    <Usage>", "<ProductVersion>11.0</ProductVersion>\n    <Usage>", `must be "11.0"`},
		{"serial number with a slash", "2026-0001", "2026/0001", "must be 1 to 64 letters"},
		{"missing field", "<OS>any</OS>", "", "no field <OS>"},
		{"field in another component", "<OS>any</OS>", "</Component><Component Id=\"X\"><OS>any</OS>", "no field <OS>"},
		{"missing component", `Id="LicenseInfo"`, `Id="licenseInfo"`, `no component "LicenseInfo"`},
	} {
		t.Run(c.name, func(t *testing.T) { signedAttack(t, c.want, replace(c.old, c.new)) })
	}
}

func TestSignRefusesAKeyOfAnotherLength(t *testing.T) {
	_, err := license.Sign(mustDraft(t, terms()), keyID, ed25519.PrivateKey("short"))
	refused(t, err, "not an Ed25519 private key")
}

func TestAnErrorIsItsReason(t *testing.T) {
	_, err := license.Inspect(nil)
	if err == nil || err.Error() != "the licence is empty" {
		t.Errorf("error is %v", err)
	}
}
