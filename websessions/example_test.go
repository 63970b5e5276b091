package websessions_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"

	"github.com/terracotta-go/terracotta/websessions"
)

var cart = websessions.NewAttribute[[]string]("cart")

// shop is a handler as an application has it.
var shop = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if item := r.FormValue("add"); item != "" {
		err := cart.Update(r.Context(), func(c *[]string) error {
			*c = append(*c, item)
			return nil
		})
		if err != nil {
			http.Error(w, "please try again", http.StatusServiceUnavailable)
			return
		}
	}
	items, err := cart.Get(r.Context())
	if err != nil {
		http.Error(w, "please try again", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, items)
})

// memory returns sessions for an example; applications use New and their own logger.
func memory() *websessions.Sessions {
	sessions, err := websessions.NewMemory(websessions.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	return sessions
}

func show(client *http.Client, url string) {
	resp, err := client.Get(url)
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Print(string(body))
}

func Example() {
	server := httptest.NewServer(memory().Handler(shop))
	defer server.Close()

	jar, _ := cookiejar.New(nil)
	ann := &http.Client{Jar: jar}
	show(ann, server.URL+"/?add=book")
	show(ann, server.URL+"/?add=disc")
	show(http.DefaultClient, server.URL) // somebody else
	// Output:
	// [book]
	// [book disc]
	// []
}

// A login gives the session a new id and keeps what is in it; a logout ends it everywhere.
func ExampleSession_Login() {
	server := httptest.NewServer(memory().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := websessions.FromContext(r.Context())
		var err error
		switch r.URL.Path {
		case "/login": // after the password was checked
			err = session.Login(r.Context(), r.FormValue("user"))
		case "/logout":
			err = session.Invalidate(r.Context())
		}
		if err != nil {
			http.Error(w, "please try again", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, "user %q\n", session.User())
	})))
	defer server.Close()

	jar, _ := cookiejar.New(nil)
	ann := &http.Client{Jar: jar}
	show(ann, server.URL+"/login?user=ann")
	show(ann, server.URL+"/")
	show(ann, server.URL+"/logout")
	// Output:
	// user "ann"
	// user "ann"
	// user ""
}

// What a handler changes in a map, slice or pointer that it has read is noticed.
func ExampleAttribute_Get() {
	prefs := websessions.NewAttribute[map[string]string]("prefs")
	server := httptest.NewServer(memory().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := prefs.Get(r.Context())
		if err == nil && p == nil {
			err = prefs.Set(r.Context(), map[string]string{"colour": "green"})
		} else if err == nil {
			p["colour"] = "blue"
		}
		fmt.Fprintln(w, p["colour"], err)
	})))
	defer server.Close()

	jar, _ := cookiejar.New(nil)
	ann := &http.Client{Jar: jar}
	show(ann, server.URL)
	show(ann, server.URL)
	show(ann, server.URL)
	// Output:
	//  <nil>
	// blue <nil>
	// blue <nil>
}

// Settings come from code, then properties, then the environment, as one likes.
func ExampleConfigFromEnv() {
	cfg := websessions.Config{URI: "terracotta://localhost:9410/shop"}
	cfg, err := websessions.ConfigFromEnv(cfg, []string{"TERRACOTTA_WEBSESSIONS_IDLE_TIMEOUT=45m"})
	fmt.Println(cfg.URI, cfg.IdleTimeout, err)

	_, err = websessions.ConfigFromEnv(cfg, []string{"TERRACOTTA_WEBSESSIONS_IDELTIMEOUT=45m"})
	fmt.Println(err)
	// Output:
	// terracotta://localhost:9410/shop 45m0s <nil>
	// unknown setting "TERRACOTTA_WEBSESSIONS_IDELTIMEOUT"; did you mean TERRACOTTA_WEBSESSIONS_IDLE_TIMEOUT?
}

// An application on a cluster: it may start before its cluster does.
func ExampleNew() {
	sessions, err := websessions.New(websessions.Config{URI: "terracotta://server-1:9410,server-2:9410/shop"})
	if err != nil {
		panic(err) // a wrong setting
	}
	defer sessions.Close(context.Background())
	http.Handle("/", sessions.Handler(shop))
	http.HandleFunc("/ready", func(w http.ResponseWriter, r *http.Request) {
		if err := sessions.Ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
}
