package stripe

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const beat = 6 * time.Second // servers of a stripe ask a second apart

// asking lets b take its turn.
func asking(b *ballot) (done chan error, began time.Time) {
	done = make(chan error, 1)
	began = time.Now()
	go func() { done <- b.turn(nil) }()
	synctest.Wait()
	return done, began
}

func TestServersAskOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for rank := range 3 {
			b := newBallot(beat)
			b.setRank(rank)
			done, began := asking(b)
			if err := <-done; err != nil || time.Since(began) != time.Duration(rank)*time.Second {
				t.Errorf("rank %d asked after %v: %v", rank, time.Since(began), err)
			}
		}
	})
}

// Who has more of the log than the one that asks wins: it need not wait.
func TestWhoRefusesAnotherAsksAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBallot(beat)
		b.setRank(2)
		done, began := asking(b)
		time.Sleep(time.Second / 2)
		if !b.decide(false, true) {
			t.Fatal("raft was not asked")
		}
		b.decided(false, true)
		if err := <-done; err != nil || time.Since(began) != time.Second/2 {
			t.Errorf("asked after %v: %v", time.Since(began), err)
		}
		late := newBallot(beat) // it refused before it stood
		late.setRank(2)
		late.decide(false, true)
		late.decided(false, true)
		done, began = asking(late)
		if err := <-done; err != nil || time.Since(began) != 0 {
			t.Errorf("asked after %v: %v", time.Since(began), err)
		}
		follows := newBallot(beat) // it refused because it has an active server
		follows.setRank(2)
		follows.decide(false, true)
		follows.decided(false, false)
		done, began = asking(follows)
		if err := <-done; err != nil || time.Since(began) != 2*time.Second {
			t.Errorf("asked after %v: %v", time.Since(began), err)
		}
	})
}

func TestWhoGrantsAnotherDoesNotAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBallot(beat)
		b.setRank(1)
		done, began := asking(b)
		b.decide(false, false)
		b.decided(true, true)
		if err := <-done; !errors.Is(err, errOtherStands) || time.Since(began) != 0 {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		time.Sleep(beat/2 - time.Millisecond)
		if done, _ = asking(b); !errors.Is(<-done, errOtherStands) {
			t.Error("it asked beside the one that it wants to be elected")
		}
		time.Sleep(time.Millisecond) // the other one has failed
		if done, _ = asking(b); <-done != nil {
			t.Error("it asks nevermore")
		}
	})
}

// While raft decides about another one's question this server does not ask: both
// would be granted, and the votes split.
func TestNobodyAsksWhileItDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBallot(beat)
		b.decide(false, false)
		done, began := asking(b)
		time.Sleep(time.Second)
		b.decided(true, true)
		if err := <-done; !errors.Is(err, errOtherStands) {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		hung := newBallot(beat)
		hung.decide(false, false)
		done, began = asking(hung)
		if err := <-done; err != nil || time.Since(began) != beat {
			t.Errorf("a decision that never comes: after %v, %v", time.Since(began), err)
		}
		stop := make(chan struct{})
		close(stop)
		if err := hung.turn(stop); err != errStopping {
			t.Errorf("at the stop: %v", err)
		}
	})
}

// Of two that ask at once, with the same log, one gives way.
func TestOfTwoOneGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			tied, before, asked, failed, want bool
		}{
			{true, true, true, false, false}, {true, false, true, false, true}, {false, true, true, false, true},
			{true, true, false, false, true}, {true, true, true, true, true},
		} {
			b := newBallot(beat)
			if c.asked {
				done, _ := asking(b)
				<-done
			}
			if c.failed {
				b.failed()
			}
			if have := b.decide(c.tied, c.before); have != c.want {
				t.Errorf("%+v: %v", c, have)
			}
		}
	})
}

// A server that has heard of the active one a little later waits for its own time-out
// with its answer. One that is in touch with the active server answers at once.
func TestAnAnswerWaitsForTheOwnTimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			silent, again time.Duration // again: from then on the active server is heard
			known         bool
			want          time.Duration
			stood         int
		}{
			{silent: beat - 2*time.Second, known: true, want: 2*time.Second + time.Millisecond, stood: 1},
			{silent: beat + time.Second, known: true, want: time.Millisecond, stood: 1},
			{silent: beat/2 - time.Second, known: true},
			{silent: beat - time.Second},
			{silent: beat - time.Second, again: time.Second / 2, known: true, want: time.Second},
		} {
			b, began, stood := newBallot(beat), time.Now(), 0
			heard := began.Add(-c.silent)
			b.awaitSilence(func() (time.Duration, time.Time, bool) {
				last := heard
				if c.again > 0 && time.Since(began) >= c.again {
					last = began.Add(c.again)
				}
				return time.Since(last), last, c.known && stood == 0
			}, func() { stood++ }, nil)
			if took := time.Since(began); took != c.want || stood != c.stood {
				t.Errorf("%+v: answered after %v, stood %d times", c, took, stood)
			}
		}
		stuck, began := newBallot(beat), time.Now() // raft does not look
		stuck.awaitSilence(func() (time.Duration, time.Time, bool) { return beat, began, true }, func() {}, nil)
		if took := time.Since(began); took != beat {
			t.Errorf("it waited %v for raft", took)
		}
	})
}

// A server that slept does not take the active one for silent before it has had the time
// to read what came meanwhile.
func TestWhoSleptHearsFirst(t *testing.T) {
	var w waking
	for _, c := range []struct{ now, silent, want time.Duration }{
		{time.Hour, beat, beat}, // the first look
		{time.Hour + beat/20, beat, beat},
		{time.Hour + beat/20 + beat/4, 2 * beat, 2 * beat},
		{2 * time.Hour, time.Hour, beat - beat/10},
		{2*time.Hour + beat/20, time.Hour, beat - beat/20},
		{2*time.Hour + beat/20, beat / 2, beat / 2},
		{2*time.Hour + beat/10, time.Hour, time.Hour},
	} {
		w.look(c.now, beat)
		if have := w.believed(c.silent, c.now, beat); have != c.want {
			t.Errorf("%+v: %v", c, have)
		}
	}
}

// A connection that broke while nobody used it is not its server's answer.
func TestABrokenConnectionIsNoRefusal(t *testing.T) {
	broken := &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	for _, c := range []struct {
		first error
		times int // first is the answer
		want  error
		asked int
	}{
		{io.EOF, 1, nil, 2}, {broken, pooledStreams, nil, pooledStreams + 1}, {fmt.Errorf("ask: %w", io.EOF), 99, io.EOF, pooledStreams + 1},
		{refused, 99, refused, 1}, {errOtherStands, 99, errOtherStands, 1}, {nil, 1, nil, 1},
	} {
		asked := 0
		err := onceMore(func() error {
			if asked++; asked <= c.times {
				return c.first
			}
			return nil
		})
		if asked != c.asked || !errors.Is(err, c.want) {
			t.Errorf("%+v: asked %d times, %v", c, asked, err)
		}
	}
}

// streams are TCP connections without a handshake; it keeps those that came in.
type streams struct {
	net.Listener
	came chan net.Conn
}

func (s streams) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err == nil {
		s.came <- c
	}
	return c, err
}

func (s streams) Dial(to raft.ServerAddress, patience time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(to), patience)
}

// newEnd is the transport of a server without raft, on streams.
func newEnd(t *testing.T) (*transport, streams) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := streams{l, make(chan net.Conn, 2*pooledStreams)}
	all, questions := overStreams(s, time.Minute, hclog.NewNullLogger())
	t.Cleanup(func() { all.Close(); questions.Close() })
	return &transport{NetworkTransport: all, questions: questions, heartbeat: 20 * time.Millisecond, hushed: new(atomic.Bool)}, s
}

// A server that asks for a vote once more goes on hearing the active one over the connections
// that it has: on a busy machine answers are late, and new connections cost it more than a heartbeat.
func TestAQuestionAskedAgainLeavesOthersConnections(t *testing.T) {
	here, came := newEnd(t)
	active, _ := newEnd(t)
	third, _ := newEnd(t)
	beat := func() {
		t.Helper()
		heard := make(chan error, 1)
		go func() {
			var resp raft.AppendEntriesResponse
			heard <- active.NetworkTransport.AppendEntries("here", here.LocalAddr(), &raft.AppendEntriesRequest{}, &resp)
		}()
		select {
		case rpc := <-here.NetworkTransport.Consumer():
			rpc.Respond(&raft.AppendEntriesResponse{}, nil)
		case err := <-heard:
			t.Fatalf("the active server is not heard: %v", err)
		}
		if err := <-heard; err != nil {
			t.Fatal(err)
		}
	}
	beat()
	voted := make(chan error, 1)
	go func() {
		voted <- here.RequestVote("third", third.LocalAddr(), &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{})
	}()
	first, again := <-third.NetworkTransport.Consumer(), <-third.NetworkTransport.Consumer()
	again.Respond(&raft.RequestVoteResponse{Granted: true}, nil)
	if err := <-voted; err != nil {
		t.Fatal(err)
	}
	first.Respond(&raft.RequestVoteResponse{}, nil)
	for range 2 {
		beat()
	}
	if n := len(came.came); n != 1 {
		t.Errorf("the active server needed %d connections", n)
	}
}

// All idle connections to the server that is to take over broke while nobody used them.
func TestAHandOverIsToldOverANewConnection(t *testing.T) {
	here, _ := newEnd(t)
	theirs, came := newEnd(t)
	told := make(chan error, pooledStreams)
	tell := func() {
		told <- here.TimeoutNow("there", theirs.LocalAddr(), &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{})
	}
	for range pooledStreams { // at once, each over a connection of its own
		go tell()
	}
	var asked []raft.RPC
	for range pooledStreams {
		asked = append(asked, <-theirs.NetworkTransport.Consumer())
	}
	for _, rpc := range asked {
		rpc.Respond(&raft.TimeoutNowResponse{}, nil)
	}
	for range pooledStreams {
		if err := <-told; err != nil {
			t.Fatal(err)
		}
	}
	for range pooledStreams {
		(<-came.came).Close()
	}
	go tell()
	select {
	case rpc := <-theirs.NetworkTransport.Consumer():
		rpc.Respond(&raft.TimeoutNowResponse{}, nil)
	case err := <-told:
		t.Fatal(err)
	}
	if err := <-told; err != nil {
		t.Error(err)
	}
}
