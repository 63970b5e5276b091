package main

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

var (
	//go:embed page.html
	pageText string
	//go:embed page.css
	styleText string

	pages = template.Must(template.New("").Funcs(template.FuncMap{
		"clock": func(t time.Time) string { return t.UTC().Format("15:04:05 UTC") },
		"date":  func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"span":  span,
		"style": func() template.CSS { return template.CSS(styleText) },
		"first": func(list []string) string {
			if len(list) == 0 {
				return ""
			}
			return list[0]
		},
	}).Parse(pageText))

	// policy allows the page's own style and nothing else: no script, no frame,
	// nothing from elsewhere.
	policy = fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
		hash(styleText))
)

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// view is what a page shows.
type view struct {
	Base       string // context path
	Color      string // goldenrod or darkseagreen
	Server     string
	Host       string // name of the machine or container
	Address    string // as the browser sees it
	Peer       string // link to the same shop on the other server, "" = none
	PeerName   string
	Products   []string
	Items      []string
	Viewed     []string
	Attributes []pair
	Session    details

	// Of the sorry page.
	Away   bool   // the cluster is: the page tries again by itself
	URI    string // where the shop looks for the cluster
	Reason string
}

type pair struct{ Key, Val string }

// details is the visitor's session; ID is "" where there is none yet.
type details struct {
	ID                  string
	Created, LastAccess time.Time
	ExpiresIn           time.Duration
}

// view fills in what does not come from the session.
func (sh *shop) view(r *http.Request, base string) view {
	if !slices.Contains(sh.cfg.Contexts, base) {
		base = sh.cfg.Contexts[0]
	}
	v := view{Base: base, Color: sh.cfg.Color, Server: sh.cfg.Name, Host: sh.cfg.Host, Address: r.Host, Products: products}
	if sh.cfg.PeerPort == 0 {
		return v
	}
	// The browser's own name for the host, whatever it is, leads to the other
	// server as well; only the port differs.
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	v.PeerName = net.JoinHostPort(host, strconv.Itoa(sh.cfg.PeerPort))
	v.Peer = "//" + v.PeerName + base + "/"
	return v
}

// writePage executes a template whole before the first byte is sent.
func (sh *shop) writePage(w http.ResponseWriter, status int, name string, v view) {
	var page bytes.Buffer
	if err := pages.ExecuteTemplate(&page, name, v); err != nil {
		sh.log.Error("page", "error", err)
		answer(w, http.StatusInternalServerError, "the page could not be made")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = page.WriteTo(w) // the browser's hanging up is no news
}

// writeJSON writes the cart for programs. Times are RFC 3339, expiresIn is in seconds.
func writeJSON(w http.ResponseWriter, v view) {
	session := map[string]any{"id": v.Session.ID, "created": "", "lastAccess": "", "expiresIn": 0}
	if v.Session.ID != "" {
		session["created"] = v.Session.Created.UTC().Format(time.RFC3339)
		session["lastAccess"] = v.Session.LastAccess.UTC().Format(time.RFC3339)
		session["expiresIn"] = int(v.Session.ExpiresIn.Seconds())
	}
	doc := map[string]any{
		"items": orEmpty(v.Items), "viewed": orEmpty(v.Viewed), "server": v.Server, "session": session,
	}
	if len(v.Attributes) > 0 {
		attributes := map[string]string{}
		for _, a := range v.Attributes {
			attributes[a.Key] = a.Val
		}
		doc["attributes"] = attributes
	}
	encodeJSON(w, http.StatusOK, doc)
}

func writeError(w http.ResponseWriter, status int, reason string) {
	encodeJSON(w, status, map[string]string{"error": http.StatusText(status), "details": reason})
}

func encodeJSON(w http.ResponseWriter, status int, doc any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(doc)
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// span writes a duration for people: "29 min 58 s".
func span(d time.Duration) string {
	s := int(d.Round(time.Second) / time.Second)
	switch {
	case s >= 3600:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	case s >= 60:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	}
	return fmt.Sprintf("%d s", s)
}

// secured sets the headers that keep a page to itself. A cart is personal: no cache keeps it.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
