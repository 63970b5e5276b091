package websessions

import (
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func setNote(w http.ResponseWriter, r *http.Request) { must(noteAttr.Set(r.Context(), "hello")) }

// readNote writes the note and the session's id.
func readNote(w http.ResponseWriter, r *http.Request) {
	v, err := noteAttr.Get(r.Context())
	must(err)
	_, _ = w.Write([]byte(v))
}

func cookieOf(t *testing.T, w *httptest.ResponseRecorder) *http.Cookie {
	t.Helper()
	cookies := w.Result().Cookies()
	if len(cookies) != 1 {
		t.Fatalf("%d cookies are set, not one: %q", len(cookies), w.Header()["Set-Cookie"])
	}
	return cookies[0]
}

func TestKeyIsTheBeginningOfTheSecretsHash(t *testing.T) {
	secret := strings.Repeat("A", 43)
	// printf %s AAA... | openssl dgst -sha256 -binary | basenc --base64url | head -c 22
	if got, want := keyOf("x-_."+secret), "x-_.DwBzhbb51LfusnSGBa_hqY"; got != want {
		t.Fatalf("key is %q, not %q", got, want)
	}
	if keyOf("aaa."+secret) == keyOf("aaa."+strings.Repeat("B", 43)) {
		t.Fatal("two secrets have one key")
	}
	if strings.Contains(keyOf("aaa."+secret), secret[:20]) {
		t.Fatal("the key shows the secret")
	}
}

func TestTokensAreWellFormedAndKeepTheirTag(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		a := newToken("")
		if p, ok := parseToken(a); !ok || p != a || seen[a] {
			t.Fatalf("token %q is malformed or came twice", a)
		}
		seen[a] = true
		if b := newToken(a[:tagLen]); b[:tagLen] != a[:tagLen] || b == a {
			t.Fatalf("renewal of %q is %q", a, b)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(newToken(""))
	f.Add(newToken("") + ".node1")
	f.Add("")
	f.Add(strings.Repeat(".", 60))
	f.Fuzz(func(t *testing.T, value string) {
		token, ok := parseToken(value)
		if !ok {
			return
		}
		if !strings.HasPrefix(value, token) || len(token) != 47 || len(keyOf(token)) != 26 {
			t.Fatalf("%q was parsed as %q", value, token)
		}
		if again, ok := parseToken(token + ".r"); !ok || again != token {
			t.Fatalf("%q with a route is %q", token, again)
		}
	})
}

func TestCookieOverTLS(t *testing.T) {
	m := newTest(t)
	c := cookieOf(t, one(m, setNote, overTLS))
	if c.Name != "__Host-TCSESSION" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 0 {
		t.Fatalf("cookie is %+v", c)
	}
}

func TestCookieOverPlainHTTPHasAPlainNameAndOneWarning(t *testing.T) {
	log := &logCount{want: "plain HTTP"}
	m := newTest(t, func(c *Config) { c.Logger = log.logger() })
	for range 3 {
		c := cookieOf(t, one(m, setNote))
		if c.Name != "TCSESSION" || c.Secure || !c.HttpOnly {
			t.Fatalf("cookie is %+v", c)
		}
	}
	if n := log.n.Load(); n != 1 {
		t.Fatalf("%d warnings, not one", n)
	}
}

func TestForwardedProtoCountsOnlyWhenTrusted(t *testing.T) {
	https := func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https, http") }
	if c := cookieOf(t, one(newTest(t), setNote, https)); c.Secure {
		t.Fatal("an untrusted header was believed")
	}
	m := newTest(t, func(c *Config) { c.TrustForwardedProto = true })
	if c := cookieOf(t, one(m, setNote, https)); !c.Secure || !strings.HasPrefix(c.Name, "__Host-") {
		t.Fatalf("a trusted header was not believed: %+v", c)
	}
}

func TestDomainOrPathTakeTheSecurePrefix(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"domain": func(c *Config) { c.Cookie.Domain = "example.com" },
		"path":   func(c *Config) { c.ContextPath = "/shop" },
	} {
		if c := cookieOf(t, one(newTest(t, change), setNote, overTLS)); c.Name != "__Secure-TCSESSION" || !c.Secure {
			t.Fatalf("%s: cookie is %+v", name, c)
		}
	}
}

func TestSameSiteNoneHoldsOverTLSOnly(t *testing.T) {
	m := newTest(t, func(c *Config) { c.Cookie.SameSite = http.SameSiteNoneMode })
	if c := cookieOf(t, one(m, setNote, overTLS)); c.SameSite != http.SameSiteNoneMode {
		t.Fatalf("over TLS: %+v", c)
	}
	if c := cookieOf(t, one(m, setNote)); c.SameSite != http.SameSiteLaxMode {
		t.Fatalf("over plain HTTP: %+v", c)
	}
}

func TestRouteIsAppendedAndIgnored(t *testing.T) {
	m := newTest(t, func(c *Config) { c.Cookie.Route = "node1" })
	w := one(m, setNote)
	c := cookieOf(t, w)
	if !strings.HasSuffix(c.Value, ".node1") {
		t.Fatalf("value is without route")
	}
	c.Value = strings.TrimSuffix(c.Value, "node1") + "node2" // the balancer's other node
	if got := one(m, readNote, func(r *http.Request) { r.AddCookie(c) }).Body.String(); got != "hello" {
		t.Fatalf("note is %q under another route", got)
	}
}

func TestMaxAgeIsWrittenInSeconds(t *testing.T) {
	m := newTest(t, func(c *Config) { c.Cookie.MaxAge = 90e9 })
	if c := cookieOf(t, one(m, setNote)); c.MaxAge != 90 {
		t.Fatalf("MaxAge is %d", c.MaxAge)
	}
}

// Attack: whoever sits on the network plants a cookie over plain HTTP and waits
// for the victim to log in over TLS.
func TestAttackPlainCookieIsNeverAcceptedOverTLS(t *testing.T) {
	m := newTest(t)
	planted := cookieOf(t, one(m, setNote))
	b := makeIll(m)
	w := one(m, readNote, overTLS, func(r *http.Request) { r.AddCookie(planted) })
	if w.Body.String() != "" || b.loads.Load() != 0 {
		t.Fatalf("a plain cookie was looked up over TLS: %q", w.Body)
	}
}

// Attack: a cookie with an id of the attacker's choice.
func TestAttackUnknownIDIsNeverAdopted(t *testing.T) {
	m := newTest(t)
	chosen := newToken("")
	w := one(m, setNote, func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "TCSESSION", Value: chosen}) })
	if c := cookieOf(t, w); c.Value == chosen || keyOf(c.Value[:47]) == keyOf(chosen) {
		t.Fatal("the chosen id was adopted")
	}
	if got := one(m, readNote, func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "TCSESSION", Value: chosen}) }).Body.String(); got != "" {
		t.Fatalf("the chosen id leads to %q", got)
	}
}

// Attack: the id, which pages and logs show, as a cookie.
func TestAttackIDIsWorthlessAsACookie(t *testing.T) {
	m := newTest(t)
	var id string
	one(m, func(w http.ResponseWriter, r *http.Request) {
		setNote(w, r)
		id = FromContext(r.Context()).ID()
	})
	if id == "" {
		t.Fatal("no id after the first Set")
	}
	for _, v := range []string{id, id + strings.Repeat("A", 21)} {
		if got := one(m, readNote, func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "TCSESSION", Value: v}) }).Body.String(); got != "" {
			t.Fatalf("the id leads to %q", got)
		}
	}
}

func TestMalformedCookiesCostNoNetwork(t *testing.T) {
	m := newTest(t)
	b := makeIll(m)
	good := newToken("")
	for _, v := range []string{"x", good[:46], good + "x", good + "." + strings.Repeat("r", 65), good + ".a/b",
		strings.Replace(good, ".", "-", 1), good[:10] + "!" + good[11:], strings.Repeat("a", 4000)} {
		one(m, readNote, func(r *http.Request) { r.Header.Set("Cookie", "TCSESSION="+v) })
		if b.calls.Load() != 0 {
			t.Fatalf("cookie %q was looked up", v)
		}
	}
}

func TestSeveralCookiesAreTriedUpToABound(t *testing.T) {
	m := newTest(t)
	w := one(m, setNote)
	b := makeIll(m)
	unknown := func(n int) func(*http.Request) {
		return func(r *http.Request) {
			for range n {
				r.AddCookie(&http.Cookie{Name: "TCSESSION", Value: newToken("")})
			}
		}
	}
	if got := one(m, readNote, unknown(3), with(w)).Body.String(); got != "hello" {
		t.Fatalf("the fourth cookie was not found: %q", got)
	}
	b.loads.Store(0)
	one(m, readNote, unknown(100))
	if n := b.loads.Load(); n != maxCandidates {
		t.Fatalf("100 cookies cost %d loads", n)
	}
}

// The tokens found are those in the cookies that net/http finds.
func TestCandidatesAreThoseOfNetHTTP(t *testing.T) {
	m := newTest(t)
	name := m.cookieName(false)
	a, b, c, d, e := newToken(""), newToken(""), newToken(""), newToken(""), newToken("")
	pieces := []string{a, a, b, b, c, d, e, a + ".route", a + ".ro te", a[1:], name, name, name, name + "x", strings.ToLower(name), "other", name + "=", name + " =", "=", "=", ";", ";", ";", "; ", "; ",
		" ", "\t", `"`, `"`, ",", "\\", "\x00", "é", "\r", "\v"}
	found := 0
	for range 20_000 {
		r := httptest.NewRequest("GET", "/", nil)
		for range rand.IntN(3) {
			var line strings.Builder
			for range rand.IntN(12) {
				line.WriteString(pieces[rand.IntN(len(pieces))])
			}
			for range rand.IntN(7) {
				line.WriteString(";" + name + "=" + pieces[rand.IntN(7)])
			}
			r.Header["Cookie"] = append(r.Header["Cookie"], line.String())
		}
		var want []string
		for _, c := range r.CookiesNamed(name) {
			if token, ok := parseToken(c.Value); ok && !slices.Contains(want, token) && len(want) < maxCandidates {
				want = append(want, token)
			}
		}
		if got := m.candidates(nil, r); !slices.Equal(got, want) {
			t.Fatalf("%q has %q, not %q", r.Header["Cookie"], got, want)
		}
		found += len(want)
	}
	if found < 10_000 {
		t.Fatalf("only %d cookies were found: this test looks at nothing", found)
	}
}

func TestRobotsLeaveNoSession(t *testing.T) {
	m := newTest(t)
	b := makeIll(m)
	w := one(m, func(w http.ResponseWriter, r *http.Request) {
		s := FromContext(r.Context())
		readNote(w, r)
		must(noteAttr.Set(r.Context(), "x"))
		must(noteAttr.Remove(r.Context()))
		must(s.SetIdleTimeout(5e9))
		must(cartAttr.Update(r.Context(), func(*[]string) error { return nil }))
		_, _ = s.IsNew(), s.Created()
	})
	if b.calls.Load() != 0 || len(w.Result().Cookies()) != 0 {
		t.Fatalf("%d calls, cookies %q", b.calls.Load(), w.Header()["Set-Cookie"])
	}
}
