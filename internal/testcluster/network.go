package testcluster

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// Network is a network of a test's own that loses, delays and cuts. Whoever is given
// Dialer("name") as its way to dial is on it under that name: a client by
// client.Options.Dial. A program that takes no dialler is given the addresses of Via. Behind
// each address stands the host that Host said; another address is a host of its own.
//
// What is cut is silent, as on a real network: connections stay, and what was
// sent waits until the cut is mended or somebody gives up. Break ends them.
// Its methods are safe for concurrent use.
type Network struct {
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex
	hosts map[string]string          // address -> host
	rules map[direction]rule         // none: all goes through at once
	links map[*link]struct{}         // open connections
	doors map[direction]net.Listener // of Via, by host and address
	moved chan struct{}              // closed, and made anew, when a rule changes
}

type direction struct{ from, to string }

type rule struct {
	cut           bool
	delay, jitter time.Duration
}

// NewNetwork returns a network that ends with the test.
func NewNetwork(t testing.TB) *Network {
	n := &Network{
		hosts: make(map[string]string), rules: make(map[direction]rule), links: make(map[*link]struct{}),
		doors: make(map[direction]net.Listener), moved: make(chan struct{}),
	}
	n.ctx, n.stop = context.WithCancel(context.Background())
	t.Cleanup(n.Close)
	return n
}

// Close ends all connections.
func (n *Network) Close() {
	n.stop()
	n.mu.Lock()
	for _, l := range n.doors {
		l.Close()
	}
	n.mu.Unlock()
	n.Break(func(string, string) bool { return true })
	n.wg.Wait()
}

// Host says which host answers at addr.
func (n *Network) Host(addr, host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[addr] = host
}

// Cut stops all that goes from one host to the other, in this direction only.
func (n *Network) Cut(from, to string) { n.change(from, to, func(r *rule) { r.cut = true }) }

// Mend lets it through again: what waited arrives late.
func (n *Network) Mend(from, to string) { n.change(from, to, func(r *rule) { r.cut = false }) }

// Delay makes everything from one host to the other take so much longer, plus up to
// jitter by chance; the order within a connection stays.
func (n *Network) Delay(from, to string, delay, jitter time.Duration) {
	n.change(from, to, func(r *rule) { r.delay, r.jitter = delay, jitter })
}

// MendAll ends all cuts and delays.
func (n *Network) MendAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.rules)
	n.movedLocked()
}

func (n *Network) change(from, to string, f func(*rule)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := direction{from, to}
	r := n.rules[d]
	f(&r)
	n.rules[d] = r
	n.movedLocked()
}

func (n *Network) movedLocked() {
	close(n.moved)
	n.moved = make(chan struct{})
}

// Break ends the open connections that which picks, by who dialled whom.
func (n *Network) Break(which func(from, to string) bool) {
	n.mu.Lock()
	var list []*link
	for l := range n.links {
		if which(l.from, l.to) {
			list = append(list, l)
		}
	}
	n.mu.Unlock()
	for _, l := range list {
		l.close()
	}
}

// link is one connection: here is the dialler's end, there the server's.
type link struct {
	from, to    string
	here, there net.Conn
}

func (l *link) close() {
	l.here.Close()
	l.there.Close()
}

// Dialer returns how host dials.
func (n *Network) Dialer(host string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		to, there, err := n.reach(ctx, host, addr)
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: network, Err: err}
		}
		near, here, err := pair()
		if err != nil {
			there.Close()
			return nil, err
		}
		n.carry(&link{from: host, to: to, here: here, there: there})
		return near, nil
	}
}

// Via returns an address that leads host to addr over this network, for a program
// that takes no Dialer. There is one for each host and addr.
func (n *Network) Via(host, addr string) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := direction{host, addr}
	if l := n.doors[d]; l != nil {
		return l.Addr().String(), nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	n.doors[d] = l
	n.wg.Go(func() {
		for {
			here, err := l.Accept()
			if err != nil {
				return
			}
			n.wg.Go(func() {
				to, there, err := n.reach(n.ctx, host, addr)
				if err != nil {
					here.Close()
					return
				}
				n.carry(&link{from: host, to: to, here: here, there: there})
			})
		}
	})
	return l.Addr().String(), nil
}

// reach connects from host to addr, where nothing is cut; and it says which host is there.
func (n *Network) reach(ctx context.Context, host, addr string) (to string, there net.Conn, err error) {
	n.mu.Lock()
	to = n.hosts[addr]
	n.mu.Unlock()
	if to == "" {
		to = addr
	}
	for _, d := range []direction{{host, to}, {to, host}} { // one to ask, one to answer
		if err := n.uncut(ctx, d); err != nil {
			return to, nil, err
		}
	}
	there, err = new(net.Dialer).DialContext(ctx, "tcp", addr)
	return to, there, err
}

// carry lets a connection live on the network.
func (n *Network) carry(l *link) {
	n.mu.Lock()
	n.links[l] = struct{}{}
	n.mu.Unlock()
	if n.ctx.Err() != nil { // Close may not have seen it
		l.close()
	}
	n.wg.Go(func() {
		var both sync.WaitGroup
		both.Go(func() { n.pump(direction{l.from, l.to}, l.there, l.here, l) })
		both.Go(func() { n.pump(direction{l.to, l.from}, l.here, l.there, l) })
		both.Wait()
		n.mu.Lock()
		delete(n.links, l)
		n.mu.Unlock()
	})
}

// pair returns two ends of a real connection: deadlines, buffers and half-closing
// are the system's.
func pair() (a, b net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	if b, err = l.Accept(); err != nil {
		a.Close()
		return nil, nil, err
	}
	return a, b, nil
}

// parcel is what one read brought, and when it may arrive.
type parcel struct {
	due  time.Time
	data []byte
}

// pump carries one direction of a connection. What is under way when a cut comes is
// held up, too.
func (n *Network) pump(d direction, to, from net.Conn, l *link) {
	queue := make(chan parcel, 256)
	done := make(chan struct{})
	go func() { // ends with the queue
		defer close(done)
		broken := false
		for p := range queue {
			if broken {
				continue // until the reader has noticed
			}
			if wait := time.Until(p.due); wait > 0 {
				timer := time.NewTimer(wait)
				select {
				case <-timer.C:
				case <-n.ctx.Done():
				}
				timer.Stop()
			}
			if n.uncut(n.ctx, d) != nil {
				broken = true
			} else if _, err := to.Write(p.data); err != nil {
				broken = true
			}
			if broken {
				l.close()
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		k, err := from.Read(buf)
		if k > 0 {
			n.mu.Lock()
			r := n.rules[d]
			n.mu.Unlock()
			p := parcel{data: append([]byte(nil), buf[:k]...)}
			if r.delay+r.jitter > 0 {
				p.due = time.Now().Add(r.delay + rand.N(r.jitter+1))
			}
			queue <- p
		}
		if err != nil {
			close(queue)
			<-done
			if err == io.EOF { // an end that was said travels like data
				_ = n.uncut(n.ctx, d)
			}
			l.close()
			return
		}
	}
}

// uncut waits until d is not cut.
func (n *Network) uncut(ctx context.Context, d direction) error {
	for {
		n.mu.Lock()
		cut, moved := n.rules[d].cut, n.moved
		n.mu.Unlock()
		if !cut {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		case <-n.ctx.Done():
			return net.ErrClosed
		}
	}
}
