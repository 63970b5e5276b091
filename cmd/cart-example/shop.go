package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/websessions"
)

// What the shop keeps in a session. That is all there is to declare.
var (
	items  = websessions.NewAttribute[[]string]("cart.items")
	viewed = websessions.NewAttribute[[]string]("cart.viewed") // the latest first
)

// products is the original sample's catalogue.
var products = []string{
	"Beavis & Butt-head Video collection",
	"X-files movie",
	"Twin peaks tapes",
	"NIN CD",
	"JSP Book",
	"Concert tickets",
	"Love life",
	"Switch blade",
	"Rex, Rugs & Rock n' Roll",
}

// Limits of a session of the demo, which anybody may fill.
const (
	maxItems      = 100
	maxAttributes = 32
	maxKey        = 64
	maxVal        = 1024
)

// doorWait is how long a visitor without a session, or a readiness check, waits
// for the cluster.
const doorWait = time.Second

// shop serves the page. It holds no carts: those are in the sessions.
type shop struct {
	cfg      config.Cart
	log      *slog.Logger
	sessions *websessions.Sessions
}

// handler routes: the shop under every context path, with sessions; health
// checks without.
func (sh *shop) handler() http.Handler {
	mux := http.NewServeMux()
	for _, base := range sh.cfg.Contexts {
		mux.Handle(base+"/{$}", sh.sessions.Handler(sh.page(base)))
		if base != "" {
			mux.Handle(base, redirect(base+"/"))
		}
	}
	if !slices.Contains(sh.cfg.Contexts, "") {
		mux.Handle("/{$}", redirect(sh.cfg.Contexts[0]+"/"))
	}
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("/ready", sh.ready)
	return sh.logged(secured(mux))
}

// refusal is a request that asks for something that the shop does not do.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

// page is the whole shop: a change answers with 303 to the clean address, so
// that a reload does not add twice; everything else shows the cart.
func (sh *shop) page(base string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			answer(w, http.StatusMethodNotAllowed, "the shop is used with GET")
			return
		}
		q := r.URL.Query()
		changed, err := act(r, q)
		if err == nil && changed {
			clean := base + "/"
			if q.Get("format") == "json" {
				clean += "?format=json"
			}
			http.Redirect(w, r, clean, http.StatusSeeOther)
			return
		}
		var v view
		if err == nil {
			v, err = sh.look(r, base)
		}
		if err != nil {
			sh.sorry(w, r, err)
			return
		}
		if q.Get("format") == "json" {
			writeJSON(w, v)
			return
		}
		sh.writePage(w, http.StatusOK, "shop", v)
	})
}

// act does what the query asks for and reports whether that was anything.
func act(r *http.Request, q url.Values) (changed bool, err error) {
	ctx := r.Context()
	switch item := q.Get("item"); {
	case !q.Has("invalidate") && !q.Has("key") && item == "", r.Method == http.MethodHead:
		return false, nil
	case unasked(r.Header):
		return false, errUnasked
	case q.Has("invalidate"):
		return true, websessions.FromContext(ctx).Invalidate(ctx)
	case q.Has("key"):
		return true, setAttribute(ctx, q.Get("key"), q.Get("val"))
	case !slices.Contains(products, item):
		return false, &refusal{fmt.Sprintf("The shop does not sell %q.", short(item))}
	default:
		return true, pick(ctx, item, q.Get("submit"))
	}
}

var errUnasked = errors.New("another page than the shop's has asked for this change; if you want it, make it here")

// unasked reports whether somebody else than the visitor wants the change: the
// shop changes by GET, as the sample that it follows, and a link or an image of
// another site, or a browser that loads pages in advance, must not. Programs such
// as curl send neither header. An application of your own should change by POST.
func unasked(h http.Header) bool {
	return h.Get("Sec-Fetch-Site") == "cross-site" || strings.HasPrefix(h.Get("Sec-Purpose"), "prefetch")
}

// pick adds an item, removes one, or only looks at it. Update is atomic: two
// browsers' tabs that add at the same time on two servers both succeed.
func pick(ctx context.Context, item, deed string) error {
	var err error
	switch deed {
	case "add":
		err = items.Update(ctx, func(list *[]string) error {
			if len(*list) >= maxItems {
				return &refusal{fmt.Sprintf("The cart is full: it holds %d items.", maxItems)}
			}
			*list = append(*list, item)
			return nil
		})
	case "remove":
		err = items.Update(ctx, func(list *[]string) error {
			if i := slices.Index(*list, item); i >= 0 {
				*list = slices.Delete(*list, i, i+1)
			}
			return nil
		})
	case "", "look":
	default:
		return &refusal{fmt.Sprintf("%q is neither add nor remove.", short(deed))}
	}
	if err != nil {
		return err
	}
	return viewed.Update(ctx, func(list *[]string) error {
		seen := slices.DeleteFunc(*list, func(p string) bool { return p == item })
		*list = slices.Insert(seen, 0, item)
		return nil
	})
}

// setAttribute sets any attribute but the shop's own.
func setAttribute(ctx context.Context, key, val string) error {
	names, err := websessions.FromContext(ctx).Attributes()
	switch {
	case err != nil:
		return err
	case key == "" || len(key) > maxKey || len(val) > maxVal:
		return &refusal{fmt.Sprintf("A key has 1 to %d bytes, a value at most %d.", maxKey, maxVal)}
	case strings.HasPrefix(key, "cart."):
		return &refusal{`Keys that start with "cart." are the shop's own.`}
	case len(names) >= maxAttributes && !slices.Contains(names, key):
		return &refusal{fmt.Sprintf("A session of this shop has at most %d attributes.", maxAttributes)}
	}
	return websessions.NewAttribute[string](key).Set(ctx, val)
}

// look reads what the page shows. Reading creates no session.
func (sh *shop) look(r *http.Request, base string) (view, error) {
	ctx := r.Context()
	v := sh.view(r, base)
	var err error
	if v.Items, err = items.Get(ctx); err != nil {
		return v, err
	}
	if v.Viewed, err = viewed.Get(ctx); err != nil {
		return v, err
	}
	s := websessions.FromContext(ctx)
	names, err := s.Attributes()
	if err != nil {
		return v, err
	}
	for _, name := range names {
		if strings.HasPrefix(name, "cart.") {
			continue
		}
		val, err := websessions.NewAttribute[string](name).Get(ctx)
		if err != nil { // another application's: shown, never touched
			val = "(not text)"
		}
		v.Attributes = append(v.Attributes, pair{name, val})
	}
	if id := s.ID(); id != "" {
		v.Session = details{ID: id, Created: s.Created(), LastAccess: s.LastAccess(), ExpiresIn: s.ExpiresIn()}
		return v, nil
	}
	// A visitor without a session needs nothing of the cluster yet. Better to
	// hear at the door that it is away than with a product in hand.
	ctx, cancel := context.WithTimeout(ctx, doorWait)
	defer cancel()
	return v, sh.sessions.Ready(ctx)
}

// ready answers whether the cluster can be reached and is configured.
func (sh *shop) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), doorWait)
	defer cancel()
	if err := sh.sessions.Ready(ctx); err != nil {
		w.Header().Set("Retry-After", "2")
		answer(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	answer(w, http.StatusOK, "ready")
}

// sorry answers a request that could not be done. A demo shows the reason; a
// real shop leaves that to its log.
func (sh *shop) sorry(w http.ResponseWriter, r *http.Request, err error) {
	v := sh.view(r, strings.TrimRight(r.URL.Path, "/"))
	v.Reason = err.Error()
	status := http.StatusInternalServerError
	var no *refusal
	switch {
	case errors.As(err, &no):
		status = http.StatusBadRequest
	case errors.Is(err, errUnasked):
		status = http.StatusForbidden
	case errors.Is(err, websessions.ErrUnavailable):
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "5")
	case errors.Is(err, websessions.ErrInvalidated), errors.Is(err, websessions.ErrConflict):
		status = http.StatusConflict
	}
	v.Away, v.URI = status == http.StatusServiceUnavailable, sh.cfg.Sessions.URI
	if status >= 500 {
		sh.log.Warn("a request failed", "path", r.URL.Path, "error", err)
	}
	if r.URL.Query().Get("format") == "json" {
		writeError(w, status, v.Reason)
		return
	}
	sh.writePage(w, status, "sorry", v)
}

func redirect(to string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target := to
		if r.URL.RawQuery != "" {
			target += "?" + r.URL.RawQuery
		}
		http.Redirect(w, r, target, http.StatusFound)
	})
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}

// logged writes a line per request at debug, without query and cookies.
func (sh *shop) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		next.ServeHTTP(w, r)
		sh.log.Debug("request", "method", r.Method, "path", r.URL.Path, "took", time.Since(began))
	})
}

// short bounds what a message repeats of a request.
func short(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}
