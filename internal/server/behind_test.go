package server

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Many peers that read nothing hold no more than all may hold together: who is
// far behind goes then, and who takes its answers notices nothing.
func TestAllTogetherAreBounded(t *testing.T) {
	limits := Limits{Write: time.Hour}.withDefaults()
	all := behind{max: 1 << 20}
	var unread []*answers
	var far sync.WaitGroup
	for range 16 {
		here, there := net.Pipe()
		t.Cleanup(func() { there.Close() })
		a := &answers{}
		a.init(here, &limits, &all, nil)
		a.inline = make([]byte, 256<<10)
		far.Go(func() { a.flush() }) // waits for a peer that never reads, or is cut off
		unread = append(unread, a)
	}
	broken := func() (n int) {
		for _, a := range unread {
			a.mu.Lock()
			if a.broken {
				n++
			}
			a.mu.Unlock()
		}
		return n
	}
	for deadline := time.Now().Add(time.Minute); broken() < 12 && time.Now().Before(deadline); {
		<-time.After(time.Millisecond)
	}
	if n := broken(); n < 12 || n == 16 {
		t.Errorf("%d of 16 peers that are 256 KiB behind are cut off at 1 MiB in all", n)
	}
	here, there := net.Pipe()
	var modest answers
	modest.init(here, &limits, &all, nil)
	if !all.thrifty() {
		t.Error("a MiB of answers is waiting, and nobody saves")
	}
	want := bytes.Repeat([]byte("x"), 32<<10)
	modest.inline = bytes.Clone(want)
	sent := make(chan bool, 1)
	go func() { sent <- modest.flush() }()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(there, got); err != nil || !bytes.Equal(got, want) || !<-sent {
		t.Errorf("a peer that reads got %d bytes, %v", len(got), err)
	}
	if n := cap(modest.inline) + cap(modest.spare) + cap(modest.out); n > 3*thriftyBuffer {
		t.Errorf("%d bytes are kept for the next answer while memory is scarce", n)
	}
	for _, a := range append(unread, &modest) {
		a.drain(0)
	}
	far.Wait()
	if n := all.sum.Load(); n != 0 {
		t.Errorf("%d bytes are still accounted for", n)
	}
}
