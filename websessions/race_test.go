package websessions

import (
	"fmt"
	"net/http"
	"testing"
)

var cartAttr = NewAttribute[[]string]("cart")
var noteAttr = NewAttribute[string]("note")

// gates let a test hold a slow request between its reading and its end.
type gates struct{ entered, release chan struct{} }

func newGates() *gates { return &gates{make(chan struct{}), make(chan struct{})} }

func shop(g *gates) map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"/login": func(w http.ResponseWriter, r *http.Request) {
			must(FromContext(r.Context()).Login(r.Context(), "ann"))
		},
		"/add": func(w http.ResponseWriter, r *http.Request) {
			must(cartAttr.Update(r.Context(), func(c *[]string) error {
				*c = append(*c, r.FormValue("item"))
				return nil
			}))
		},
		"/cart": func(w http.ResponseWriter, r *http.Request) {
			c, err := cartAttr.Get(r.Context())
			must(err)
			fmt.Fprint(w, text2(c))
		},
		"/user": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, FromContext(r.Context()).User())
		},
		"/note": func(w http.ResponseWriter, r *http.Request) {
			v, err := noteAttr.Get(r.Context())
			must(err)
			fmt.Fprint(w, v)
		},
		"/logout": func(w http.ResponseWriter, r *http.Request) {
			must(FromContext(r.Context()).Invalidate(r.Context()))
		},
		"/slowread": func(w http.ResponseWriter, r *http.Request) {
			_, err := cartAttr.Get(r.Context())
			must(err)
			close(g.entered)
			<-g.release
		},
		"/slowwrite": func(w http.ResponseWriter, r *http.Request) {
			_, err := cartAttr.Get(r.Context())
			must(err)
			must(noteAttr.Set(r.Context(), "slow"))
			close(g.entered)
			<-g.release
		},
	}
}

// slowBeside runs a slow request on one node while another node does deed.
func slowBeside(t *testing.T, b *browser, slow, deed string, g *gates) {
	t.Helper()
	done := make(chan page, 1)
	go func() { done <- b.get(slow) }()
	<-g.entered
	b.ok(deed)
	close(g.release)
	if p := <-done; p.code != 200 {
		t.Fatalf("slow request: status %d, error %v", p.code, p.err)
	}
}

// TestRaceTable shows what is left after a slow request overlapped another one of
// the same session (docs/websessions.md, "Overlapping requests").
func TestRaceTable(t *testing.T) {
	onBoth(t, func(t *testing.T, open opener) {
		t.Run("one node", func(t *testing.T) { raceTable(t, open, 1) })
		t.Run("two nodes", func(t *testing.T) { raceTable(t, open, 2) })
	})
}

func raceTable(t *testing.T, open opener, nodes int) {
	start := func(t *testing.T) (first, second string, b *browser, g *gates) {
		g = newGates()
		first = serve(t, open(t), shop(g))
		second = first
		if nodes == 2 {
			second = serve(t, open(t), shop(g))
		}
		b = newBrowser(t)
		b.ok(first + "/login")
		b.ok(first + "/add?item=book")
		return first, second, b, g
	}
	t.Run("slow read overlaps cart-add", func(t *testing.T) {
		first, second, b, g := start(t)
		slowBeside(t, b, first+"/slowread", second+"/add?item=disc", g)
		if got := b.ok(first + "/cart"); got != "book,disc" {
			t.Fatalf("cart is %q: the slow request's old copy overwrote it", got)
		}
	})
	t.Run("slow read overlaps logout", func(t *testing.T) {
		first, second, b, g := start(t)
		tab := b.forgotten(first)
		slowBeside(t, b, first+"/slowread", second+"/logout", g)
		if got := tab.ok(first+"/user") + tab.ok(second+"/user"); got != "" {
			t.Fatalf("user is %q: the slow request undid the logout", got)
		}
	})
	t.Run("slow write of another key overlaps cart-add", func(t *testing.T) {
		first, second, b, g := start(t)
		slowBeside(t, b, first+"/slowwrite", second+"/add?item=disc", g)
		if got := b.ok(second + "/cart"); got != "book,disc" {
			t.Fatalf("cart is %q: the slow write took the whole session with it", got)
		}
		if got := b.ok(second + "/note"); got != "slow" {
			t.Fatalf("note is %q: the slow write itself was lost", got)
		}
	})
	t.Run("slow write overlaps logout", func(t *testing.T) {
		first, second, b, g := start(t)
		tab := b.forgotten(first)
		slowBeside(t, b, first+"/slowwrite", second+"/logout", g)
		for _, node := range []string{first, second} {
			if got := tab.ok(node+"/user") + tab.ok(node+"/cart") + tab.ok(node+"/note"); got != "" {
				t.Fatalf("%q is left: the slow write resurrected the session", got)
			}
		}
	})
}
