//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"testing"
	"time"
)

// customer is a browser with one cookie jar. Cookies don't know ports, so a
// customer is the same one at every cart of this machine.
type customer struct {
	t    *testing.T
	http *http.Client
}

// page is what a cart answers to ?format=json.
type page struct {
	Items   []string `json:"items"`
	Viewed  []string `json:"viewed"`
	Server  string   `json:"server"`
	Session struct {
		ID string `json:"id"`
	} `json:"session"`
}

func newCustomer(t *testing.T) *customer {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &customer{t, &http.Client{Jar: jar, Timeout: time.Minute}}
}

// try fetches a page of the cart at address ("host:port").
func (c *customer) try(address, path string, query url.Values) (page, error) {
	var p page
	if query == nil {
		query = url.Values{}
	}
	request := "http://" + address + path
	if query.Has("submit") {
		resp, err := c.http.Get(request + "?" + query.Encode()) // answers 303 to the clean address
		if err != nil {
			return p, err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.Request.URL.RawQuery != "" {
			return p, fmt.Errorf("%s: %s at %s", request, resp.Status, resp.Request.URL)
		}
	}
	resp, err := c.http.Get(request + "?format=json")
	if err != nil {
		return p, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return p, err
	}
	if resp.StatusCode != http.StatusOK {
		return p, fmt.Errorf("%s: %s: %s", request, resp.Status, text)
	}
	return p, json.Unmarshal(text, &p)
}

func (c *customer) add(address, item string) page {
	c.t.Helper()
	p, err := c.try(address, "/cart/", url.Values{"item": {item}, "submit": {"add"}})
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

// sees waits until the cart at address holds exactly the items.
func (c *customer) sees(address, path string, items ...string) page {
	c.t.Helper()
	var p page
	eventually(c.t, 2*time.Minute, func() (err error) {
		p, err = c.try(address, path, nil)
		if err == nil && !slices.Equal(p.Items, items) {
			// A served page is never an old one: no second chance.
			c.t.Fatalf("cart at %s holds %q, want %q", address, p.Items, items)
		}
		return err
	})
	return p
}
