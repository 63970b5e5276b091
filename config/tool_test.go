package config

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

const cartURI = "TERRACOTTA_WEBSESSIONS_STORE_TCSTORE_URI=terracotta://localhost:9410/shop"

func TestToolDefaults(t *testing.T) {
	c, err := LoadTool(nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Settings, c.TrustedKeys = nil, ""
	equal(t, c, Tool{Common: Common{LogLevel: "info", LogFormat: "text"}, LicenseFile: "/licenses/license.xml"})
}

func TestEveryToolVariable(t *testing.T) {
	keys, sum := t.TempDir(), strings.Repeat("AB", 32)
	c, err := LoadTool([]string{"LICENSE_URL=https://server/license.xml", "LICENSE_FILE=/l.xml", "LICENSE_SHA256=" + sum, "LICENSE_CA=/ca.pem",
		"LICENSE_ALLOW_HTTP=Y", "LICENSE_TOKEN_FILE=/token", "LICENSE_CLIENT_CERT=/c.pem", "LICENSE_CLIENT_KEY=/k.pem",
		"TC_TRUSTED_KEYS=" + keys, "TC_PASSWORD=s", "ACCEPT_EULA=Y", "TERRACOTTA_CONTAINER=1"})
	if err != nil {
		t.Fatal(err)
	}
	c.Settings = nil
	equal(t, c, Tool{Common: Common{InContainer: true, EULA: true, LogLevel: "info", LogFormat: "text"}, TrustedKeys: keys, Password: "s",
		LicenseURL: "https://server/license.xml", LicenseFile: "/l.xml", LicenseSHA256: strings.ToLower(sum), LicenseCA: "/ca.pem",
		LicenseAllowHTTP: true, LicenseTokenFile: "/token", LicenseClientCert: "/c.pem", LicenseClientKey: "/k.pem"})
}

func TestToolFaults(t *testing.T) {
	for given, says := range map[string]string{
		"LICENSE_SHA256=abc":          "is not 64 hexadecimal digits",
		"LICENSE_ALLOW_HTTP=true":     "is neither Y nor N; example: LICENSE_ALLOW_HTTP=Y",
		"LICENSE_CLIENT_CERT=/c.pem":  "set together or not at all",
		"LICENSE_ULR=https://s/l":     "did you mean LICENSE_URL?",
		"LOG_LEVEL=loud":              "is none of debug, info, warn, error",
		"TC_PASSWORD_FILE=/nowhere/x": "no such file",
	} {
		given := strings.Replace(given, "https://s/l", "server", 1)
		if _, err := LoadTool([]string{given}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", given, err, says)
		}
	}
}

func loadCart(t *testing.T, args []string, environ ...string) (Cart, error) {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	CartFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return LoadCart(fs, append(environ, "HOSTNAME=box-1"))
}

// The JAVA_OPTS of the quickstart, as they stand in the seed.
func TestCartOfTheQuickstart(t *testing.T) {
	c, err := loadCart(t, nil, "ACCEPT_EULA=Y", "JAVA_OPTS=-Dterracotta.websessions.store.tcstore.uri=terracotta://terracotta:9410/sessions-example "+
		"-Dterracotta.websessions.store.tcstore.offheapResource=offheap-1 -Dterracotta.websessions.store.tcstore.diskResource=dataroot-1",
		"TERRACOTTA_PORT=tcp://172.17.0.2:9410", "TERRACOTTA_NAME=/sessions/terracotta")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, []string{c.Sessions.URI, c.Sessions.OffheapResource, c.Sessions.DiskResource},
		[]string{"terracotta://terracotta:9410/sessions-example", "offheap-1", "dataroot-1"})
	equal(t, c.Listen, ":8080")
	equal(t, c.Contexts, []string{"/cart", "/Cart"})
	equal(t, c.Color, Goldenrod)
	equal(t, []string{c.Name, c.Host, c.Sessions.Label}, []string{"box-1", "box-1", "box-1"})
	equal(t, c.PeerPort, 0)
	equal(t, setting(c.Settings, "terracotta.websessions.store.tcstore.diskResource"), Setting{
		"terracotta.websessions.store.tcstore.diskResource", "dataroot-1", "JAVA_OPTS -Dterracotta.websessions.store.tcstore.diskResource"})
}

func TestEveryCartVariable(t *testing.T) {
	c, err := loadCart(t, nil, cartURI, "CART_LISTEN=127.0.0.1:9082", "CART_CONTEXT_PATHS=/a, /b/,/a,/", "CART_COLOR=darkseagreen",
		"CART_PEER_PORT=9081", "CART_SERVER_NAME=shop-2", "LOG_LEVEL=debug")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, []any{c.Listen, c.Contexts, c.Color, c.PeerPort, c.Name, c.Host, c.LogLevel},
		[]any{"127.0.0.1:9082", []string{"/a", "/b", ""}, DarkSeaGreen, 9081, "shop-2", "box-1", "debug"})
}

// Web Sessions settings obey the same order of floors.
func TestCartSessionsPrecedence(t *testing.T) {
	const property = "terracotta.websessions.store.tcstore.uri"
	opts := "JAVA_OPTS=-D" + property + "=terracotta://property/x"
	env := "TERRACOTTA_WEBSESSIONS_STORE_TCSTORE_URI=terracotta://environment/x"
	for _, test := range []struct {
		uri, origin   string
		args, environ []string
	}{
		{"terracotta://property/x", "JAVA_OPTS -D" + property, nil, []string{opts}},
		{"terracotta://environment/x", "environment TERRACOTTA_WEBSESSIONS_STORE_TCSTORE_URI", nil, []string{opts, env}},
		{"terracotta://flag/x", "flag -D " + property, []string{"-D", property + "=terracotta://flag/x"}, []string{opts, env}},
		{"terracotta://flag/x", "flag -D " + property, []string{"-D" + property + "=terracotta://flag/x"}, []string{opts}},
	} {
		c, err := loadCart(t, test.args, test.environ...)
		if err != nil || c.Sessions.URI != test.uri || origin(c.Settings, property) != test.origin {
			t.Errorf("%q from %q, want %q: %v", c.Sessions.URI, origin(c.Settings, property), test.uri, err)
		}
	}
}

func TestCartFaults(t *testing.T) {
	for given, says := range map[string]string{
		"X=":                            "store.tcstore.uri: is not set: which cluster keeps the sessions?; example: JAVA_OPTS=",
		"CART_LISTEN=8080":              "is not host:port",
		"CART_COLOR=red":                "is none of goldenrod, darkseagreen",
		"CART_PEER_PORT=0":              "is not between 1 and 65535",
		"CART_CONTEXT_PATHS=cart":       "is not a list of paths",
		"CART_CONTEXT_PATHS=/health":    "takes the path of a health check",
		"CART_COLOUR=goldenrod":         "did you mean CART_COLOR?",
		"JAVA_OPTS=-Dterracotta.cart.x": "is not a known property",
		"JAVA_OPTS=-Dterracotta.websessions.rejion=true": "terracotta.websessions.rejion",
		"TERRACOTTA_WEBSESSIONS_REJION=true":             "TERRACOTTA_WEBSESSIONS_REJION",
	} {
		if _, err := loadCart(t, nil, given); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", given, err, says)
		}
	}
	// What only the library can judge is told together with the rest.
	_, err := loadCart(t, nil, "CART_COLOR=red", "JAVA_OPTS=-Dterracotta.websessions.sessionLocking=true "+
		"-Dterracotta.websessions.store.tcstore.uri=http://terracotta:9410/shop -Dterracotta.websessions.cookie.name=a;b")
	for _, says := range []string{"CART_COLOR", "sessionLocking", `store.tcstore.uri: terracotta URI "http://terracotta:9410/shop"`, "cookie.name"} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	if _, err := loadCart(t, []string{"-D", "user.name=x"}, cartURI); err == nil || !strings.Contains(err.Error(), "is not a terracotta.websessions.* property") {
		t.Errorf("%v", err)
	}
}

func TestTwoCartsDifferInColor(t *testing.T) {
	for _, test := range []struct {
		port, peer int
		name, want string
	}{
		{8080, 9082, "3f2a", Goldenrod}, {8080, 9081, "3f2a", DarkSeaGreen}, {9081, 0, "a", Goldenrod}, {9082, 0, "a", DarkSeaGreen},
		{8080, 0, "cart-1", Goldenrod}, {8080, 0, "cart-2", DarkSeaGreen},
	} {
		equal(t, boxColor(test.port, test.peer, test.name), test.want)
	}
}
