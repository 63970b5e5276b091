package config

import (
	"net/url"
	"strings"
)

// LoadTool reads the environment of the cluster tool. With an error, which joins
// all Faults, the rest of the Tool is what could be read.
func LoadTool(environ []string) (Tool, error) {
	f := load(toolRows, nil, environ, "")
	t := Tool{
		Common:            f.common(),
		TrustedKeys:       f.trustedKeys(executable()),
		Password:          f.password(),
		LicenseURL:        f.text("license-url"),
		LicenseFile:       f.text("license-file"),
		LicenseSHA256:     strings.ToLower(f.text("license-sha256")),
		LicenseCA:         f.text("license-ca"),
		LicenseAllowHTTP:  f.text("license-allow-http") == "Y",
		LicenseTokenFile:  f.text("license-token-file"),
		LicenseClientCert: f.text("license-client-cert"),
		LicenseClientKey:  f.text("license-client-key"),
	}
	if sum := t.LicenseSHA256; sum != "" && (len(sum) != 64 || strings.Trim(sum, "0123456789abcdef") != "") {
		f.bad("license-sha256", "is not 64 hexadecimal digits")
	}
	if v := f.text("license-allow-http"); v != "" && v != "Y" && v != "N" {
		f.bad("license-allow-http", "is neither Y nor N")
	}
	if (t.LicenseClientCert == "") != (t.LicenseClientKey == "") {
		f.fault("license-client-cert", "", joined(f.origin["license-client-cert"], f.origin["license-client-key"]),
			"a client certificate and its key are set together or not at all",
			"LICENSE_CLIENT_CERT=/licenses/client.pem LICENSE_CLIENT_KEY=/licenses/client-key.pem")
	}
	t.Notes = f.notes
	t.Settings = f.listed()
	for i, s := range t.Settings {
		if s.Key == "license-url" && s.Value != "" {
			t.Settings[i].Value = withoutSecrets(s.Value)
		}
	}
	return t, f.err()
}

// withoutSecrets shows scheme, host and path of a URL: user, query and fragment may be secrets.
func withoutSecrets(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(set)"
	}
	shown := (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, Opaque: u.Opaque}).String()
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		shown += " (and more, not shown)"
	}
	return shown
}
