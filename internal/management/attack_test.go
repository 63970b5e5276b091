package management

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// What no probe sends is refused, and costs those that probe nothing.
func TestAttackHeaders(t *testing.T) {
	t.Parallel()
	_, url := serve(t)
	addr := strings.TrimPrefix(url, "http://")
	say := func(request string) string {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(2 * time.Minute))
		go func() { _, _ = io.WriteString(nc, request) }()
		answer, _ := io.ReadAll(nc) // a reset after the answer is fine
		return string(answer)
	}
	for name, request := range map[string]string{
		"one huge header":   "GET /health HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
		"many headers":      "GET /health HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-A: b\r\n", 100_000) + "\r\n",
		"a header, forever": "GET /health HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("x", 1<<20),
		"a long path":       "GET /" + strings.Repeat("x", 1<<20) + " HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		if got := say(request); !strings.HasPrefix(got, "HTTP/1.1 431 ") && got != "" {
			t.Errorf("%s: %.60q", name, got)
		}
	}
	if got := say("*1\r\n$4\r\nPING\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
		t.Errorf("RESP on the port of HTTP: %.60q", got)
	}
	if status, _ := get(t, url+"/health"); status != 503 { // no engine yet: starts
		t.Errorf("afterwards /health answers %d", status)
	}
}

// A request that never ends is cut off within the time for headers.
func TestAttackSlowRequest(t *testing.T) {
	t.Parallel()
	s, url := serve(t)
	if s.http.ReadHeaderTimeout != headerTimeout || s.http.ReadTimeout != headerTimeout || headerTimeout > 10*time.Second {
		t.Errorf("headers may take %v, a request %v", s.http.ReadHeaderTimeout, s.http.ReadTimeout)
	}
	nc, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		_, _ = io.WriteString(nc, "GET /health HTTP/1.1\r\nHost: a\r\nX-A: ")
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
				if _, err := nc.Write([]byte("x")); err != nil {
					return
				}
			}
		}
	}()
	if _, err := io.Copy(io.Discard, nc); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error("a request that dribbles is never cut off")
	}
}
