package stripe

import (
	"net"
	"sync"
	"testing"
	"time"
)

// link carries the connections from one server to another over loopback TCP, and
// can hold them back, slow them down or end them.
type link struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	cut   [2]bool // there, back: what is sent is held back for as long
	delay time.Duration
	free  chan struct{} // closed, and replaced, when cut changes
	conns map[net.Conn]bool
	lost  map[net.Conn]bool // what is sent on them is never heard of, nor their end
	dead  bool              // connections are refused and ended, as by a process that is gone
	work  sync.WaitGroup
}

func newLink(t testing.TB, to string) *link {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &link{listener: l, to: to, free: make(chan struct{}), conns: map[net.Conn]bool{}, lost: map[net.Conn]bool{}}
	k.work.Go(k.run)
	t.Cleanup(func() {
		l.Close()
		k.kill(true)
		k.work.Wait()
	})
	return k
}

func (k *link) addr() string { return k.listener.Addr().String() }

func (k *link) run() {
	for {
		from, err := k.listener.Accept()
		if err != nil {
			return
		}
		k.work.Go(func() { k.carry(from) })
	}
}

func (k *link) carry(from net.Conn) {
	defer from.Close()
	if !k.add(from) {
		return
	}
	defer k.remove(from)
	to, err := net.Dial("tcp", k.to)
	if err != nil {
		return
	}
	defer to.Close()
	if !k.add(to) {
		return
	}
	defer k.remove(to)
	var both sync.WaitGroup
	both.Go(func() { k.pass(to, from, 0) })
	both.Go(func() { k.pass(from, to, 1) })
	both.Wait()
}

func (k *link) add(c net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.dead {
		k.conns[c] = true
	}
	return !k.dead
}

func (k *link) remove(c net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.conns, c)
	delete(k.lost, c)
}

func (k *link) pass(to, from net.Conn, way int) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			for {
				k.mu.Lock()
				cut, delay, free, dead, lost := k.cut[way], k.delay, k.free, k.dead, k.lost[from]
				k.mu.Unlock()
				if dead {
					return
				}
				if lost {
					n = 0
					break
				}
				if !cut {
					time.Sleep(delay)
					break
				}
				<-free
			}
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// set cuts or frees each way, and delays what passes.
func (k *link) set(there, back bool, delay time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut, k.delay = [2]bool{there, back}, delay
	close(k.free)
	k.free = make(chan struct{})
}

// lose loses all connections in silence, as where a host went away and came back.
func (k *link) lose() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.conns {
		k.lost[c] = true
	}
}

// kill ends and refuses all connections, or lets them through again.
func (k *link) kill(dead bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dead = dead
	if dead {
		for c := range k.conns {
			c.Close()
		}
	}
	close(k.free)
	k.free = make(chan struct{})
}
