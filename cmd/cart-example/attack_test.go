package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/config"
)

// One named test per attack that was tried against a running shop.

// as asks like get, with a method and headers.
func (v visitor) as(method, address string, header ...string) *http.Response {
	v.t.Helper()
	req, err := http.NewRequest(method, address, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := v.c.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

var changes = []string{add("NIN CD"), "item=JSP+Book&submit=remove", "item=NIN+CD", "key=a&val=evil", "invalidate=true"}

func TestAttackAnotherSiteChangesTheCart(t *testing.T) {
	base := open(t, config.Cart{}).URL + "/cart/"
	for name, header := range map[string][]string{
		"link on another site": {"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"},
		"loaded in advance":    {"Sec-Fetch-Site", "none", "Sec-Purpose", "prefetch;prerender"},
	} {
		v := newVisitor(t)
		v.do(base, add("JSP Book"))
		before := v.cart(base)
		for _, query := range changes {
			if resp := v.as(http.MethodGet, base+"?"+query, header...); resp.StatusCode != http.StatusForbidden {
				t.Errorf("%s, %s: status %d", name, query, resp.StatusCode)
			}
		}
		after := v.cart(base)
		want(t, after.Items, before.Items)
		want(t, after.Viewed, before.Viewed)
		want(t, after.Session.ID, before.Session.ID)
		want(t, len(after.Attributes), 0)
		if resp := v.as(http.MethodGet, base, header...); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: looking is refused: status %d", name, resp.StatusCode)
		}
		// The shop's own forms, its twin on another port and typed addresses go on.
		for _, site := range []string{"same-origin", "same-site", "none"} {
			if resp := v.as(http.MethodGet, base+"?"+add("NIN CD"), "Sec-Fetch-Site", site); resp.StatusCode != http.StatusSeeOther {
				t.Errorf("%s: status %d", site, resp.StatusCode)
			}
		}
	}
}

// HEAD is for looking: link checkers and previews use it.
func TestAttackHeadChangesNothing(t *testing.T) {
	base := open(t, config.Cart{}).URL + "/cart/"
	v := newVisitor(t)
	v.do(base, add("JSP Book"))
	before := v.cart(base)
	for _, query := range changes {
		v.as(http.MethodHead, base+"?"+query)
	}
	after := v.cart(base)
	want(t, after.Items, before.Items)
	want(t, after.Session.ID, before.Session.ID)
	want(t, len(after.Attributes), 0)
}

func TestAttackMarkupInEveryField(t *testing.T) {
	base := open(t, config.Cart{Name: `"><script>name</script>`, Host: `<script>host</script>`, PeerPort: 9082}).URL + "/cart/"
	const evil = `"'><script>alert(1)</script><!--`
	v := newVisitor(t)
	q := url.Values{"key": {evil}, "val": {evil + "\r\nSet-Cookie: a=b"}}
	v.do(base, q.Encode())
	for _, query := range []string{"", "?item=" + url.QueryEscape(evil), "?item=NIN+CD&submit=" + url.QueryEscape(evil),
		"?key=" + url.QueryEscape("cart."+evil) + "&val=x", "?format=json"} {
		p := v.get(base + query)
		if strings.Contains(p.body, "<script") {
			t.Errorf("%q: markup of a visitor is on the page", query)
		}
		if p.Header.Get("X-Content-Type-Options") != "nosniff" || p.Header.Get("Cache-Control") == "" ||
			!strings.Contains(p.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%q: headers %v", query, p.Header)
		}
	}
	resp := v.as(http.MethodGet, strings.TrimSuffix(base, "/")+"?x=%0d%0aSet-Cookie:%20a=b")
	if len(resp.Header.Values("Set-Cookie")) > 0 || !strings.HasPrefix(resp.Header.Get("Location"), "/cart/?") {
		t.Errorf("headers %v", resp.Header)
	}
}

// A session id that somebody else chose is never used.
func TestAttackPlantedCookie(t *testing.T) {
	base := open(t, config.Cart{}).URL + "/cart/"
	const planted = "abc.0123456789012345678901234567890123456789012"
	v := newVisitor(t)
	u, _ := url.Parse(base)
	v.c.Jar.SetCookies(u, []*http.Cookie{{Name: "TCSESSION", Value: planted, Path: "/"}})
	v.do(base, add("NIN CD"))
	for _, c := range v.c.Jar.Cookies(u) {
		if c.Value == planted {
			t.Error("the planted cookie was kept")
		}
	}
	thief := newVisitor(t)
	thief.c.Jar.SetCookies(u, []*http.Cookie{{Name: "TCSESSION", Value: planted, Path: "/"}})
	want(t, len(thief.cart(base).Items), 0)
}
