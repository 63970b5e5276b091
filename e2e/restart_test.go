//go:build e2e

package e2e

import (
	"testing"
)

func TestTheCartOutlivesItsServer(t *testing.T) {
	needImages(t)
	nw, data := newNetwork(t), newVolume(t)
	server := startServer(t, nw, mounted(data, "/data/dataroots"))
	mustConfigure(t, nw)
	one, two := startCart(t, nw, "cart-1"), startCart(t, nw, "cart-2")
	shop1, shop2 := address(t, one, "8080"), address(t, two, "8080")
	c := newCustomer(t)
	first := c.add(shop1, "JSP Book")
	if second := c.sees(shop2, "/Cart/", "JSP Book"); second.Session.ID != first.Session.ID || len(second.Viewed) != 1 {
		t.Errorf("on the other cart: session %q and history %q, want session %q", second.Session.ID, second.Viewed, first.Session.ID)
	}

	for _, deed := range [][]string{{"stop"}, {"kill", "--signal", "KILL"}} {
		if out, code := docker(t, root, append(deed, server.GetContainerID())...); code != 0 {
			t.Fatalf("docker %v: %s", deed, out)
		}
		if out, code := docker(t, root, "start", server.GetContainerID()); code != 0 {
			t.Fatalf("docker start: %s", out)
		}
		c.sees(shop1, "/cart/", "JSP Book")
		c.sees(shop2, "/cart/", "JSP Book")
	}

	// Another container on the same volume, under another host name and
	// address, is the same server.
	c.add(shop2, "NIN CD")
	remove(t, server)
	startServer(t, nw, mounted(data, "/data/dataroots"), hostname("renamed"))
	c.sees(shop1, "/cart/", "JSP Book", "NIN CD")
	if last := c.sees(shop2, "/cart/", "JSP Book", "NIN CD"); last.Session.ID != first.Session.ID {
		t.Errorf("session was %q, now %q", first.Session.ID, last.Session.ID)
	}
	if code, out := configure(t, nw, mint(t, nil)); code != 28 && code != 0 {
		t.Errorf("configure of a configured cluster ended with %d:\n%s", code, out)
	}
}
