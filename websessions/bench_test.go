package websessions

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// nothing is a ResponseWriter that keeps nothing, so that only our work is measured.
type nothing struct{ h http.Header }

func (n nothing) Header() http.Header         { return n.h }
func (n nothing) Write(p []byte) (int, error) { return len(p), nil }
func (n nothing) WriteHeader(int)             {}

// benchmark runs h in requests of one browser that has a session with some attributes.
func benchmark(b *testing.B, m *Sessions, h http.HandlerFunc) {
	b.Helper()
	w := do(m, nil, func(ctx context.Context, s *Session) {
		must(noteAttr.Set(ctx, strings.Repeat("x", 1024)))
		must(cartAttr.Set(ctx, []string{"book", "disc"}))
		must(NewAttribute[int]("n").Set(ctx, 0))
	})
	r := httptest.NewRequest("GET", "http://shop.example/", nil)
	with(w)(r)
	handler := m.Handler(h)
	b.ReportAllocs()
	for b.Loop() {
		handler.ServeHTTP(nothing{http.Header{}}, r)
	}
}

var page1K = []byte(strings.Repeat("x", 1024))

func benchmarks(b *testing.B, open func(b *testing.B) *Sessions) {
	n := NewAttribute[int]("n")
	b.Run("no session used", func(b *testing.B) {
		benchmark(b, open(b), func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(page1K) })
	})
	b.Run("read one attribute", func(b *testing.B) {
		benchmark(b, open(b), func(w http.ResponseWriter, r *http.Request) {
			_, err := noteAttr.Get(r.Context())
			must(err)
			_, _ = w.Write(page1K)
		})
	})
	b.Run("read and write one attribute", func(b *testing.B) {
		i := 0
		benchmark(b, open(b), func(w http.ResponseWriter, r *http.Request) {
			_, err := n.Get(r.Context())
			must(err)
			i++
			must(n.Set(r.Context(), i))
			_, _ = w.Write(page1K)
		})
	})
	b.Run("update one attribute", func(b *testing.B) {
		benchmark(b, open(b), func(w http.ResponseWriter, r *http.Request) {
			must(n.Update(r.Context(), func(v *int) error { *v++; return nil }))
			_, _ = w.Write(page1K)
		})
	})
	b.Run("read a slice that nobody changes", func(b *testing.B) {
		benchmark(b, open(b), func(w http.ResponseWriter, r *http.Request) {
			_, err := cartAttr.Get(r.Context())
			must(err)
		})
	})
}

func BenchmarkMemory(b *testing.B) {
	benchmarks(b, func(b *testing.B) *Sessions { return newTest(b) })
}

// BenchmarkCluster runs against a server in this process that keeps its data in memory.
func BenchmarkCluster(b *testing.B) {
	benchmarks(b, func(b *testing.B) *Sessions { return openCluster(b, StartCluster(b)) })
}
