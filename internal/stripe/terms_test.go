package stripe

import (
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// slowTerms is a store in which each term waits until it is let through.
type slowTerms struct {
	raft.StableStore
	asked chan uint64 // a term waits
	let   map[uint64]chan struct{}
}

func (s *slowTerms) SetUint64(key []byte, v uint64) error {
	if c := s.let[v]; c != nil && string(key) == termKey {
		s.asked <- v
		<-c
	}
	return s.StableStore.SetUint64(key, v)
}

// slowLog is a log that never takes an entry, until it is closed.
type slowLog struct {
	raft.LogStore
	asked, closed chan struct{}
}

func (l *slowLog) StoreLogs([]*raft.Log) error {
	l.asked <- struct{}{}
	<-l.closed
	return io.EOF
}

// tapped shows what is given to raft's main loop.
type tapped struct {
	*transport
	out chan raft.RPC
}

func (t tapped) Consumer() <-chan raft.RPC { return t.out }

// follower is raft as the follower of whoever sends it heartbeats.
type follower struct {
	*raft.Raft
	disk   *slowTerms
	log    *slowLog
	passed chan struct{} // something was given to its main loop

	sender *raft.NetworkTransport
	at     raft.ServerAddress
}

func newFollower(t *testing.T) *follower {
	t.Helper()
	network := func() *raft.NetworkTransport {
		n, err := raft.NewTCPTransport("127.0.0.1:0", nil, 1, time.Minute, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	f := &follower{
		disk:   &slowTerms{raft.NewInmemStore(), make(chan uint64, 10), map[uint64]chan struct{}{5: make(chan struct{}), 6: make(chan struct{})}},
		log:    &slowLog{raft.NewInmemStore(), make(chan struct{}), make(chan struct{})},
		passed: make(chan struct{}, 10), sender: network(),
	}
	stable, own := newTerms(f.disk), network()
	trans := tapped{&transport{NetworkTransport: own, questions: network(), incoming: newIncoming(own.Consumer(), time.Minute), terms: stable}, make(chan raft.RPC, 10)}
	f.at = own.LocalAddr()
	go func() {
		for {
			select {
			case rpc := <-trans.incoming.out:
				f.passed <- struct{}{}
				trans.out <- rpc
			case <-trans.incoming.stop:
				return
			}
		}
	}()
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger = "follower", hclog.NewNullLogger()
	conf.HeartbeatTimeout, conf.ElectionTimeout = time.Hour, time.Hour
	var err error
	if f.Raft, err = raft.NewRaft(conf, nil, f.log, stable, raft.NewDiscardSnapshotStore(), trans); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.sender.Close()
		close(f.log.closed)
		if err := f.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// hears sends the follower a message of a leader, and returns where its answer will be.
func (f *follower) hears(t *testing.T, term uint64, entries ...*raft.Log) <-chan raft.AppendEntriesResponse {
	answer := make(chan raft.AppendEntriesResponse, 1)
	go func() {
		var r raft.AppendEntriesResponse
		m := raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("leader"), Addr: []byte("leader")}, Term: term, Entries: entries}
		if err := f.sender.AppendEntries("", f.at, &m, &r); err != nil && len(entries) == 0 {
			t.Errorf("a heartbeat of term %d: %v", term, err)
		}
		answer <- r
	}()
	return answer
}

// A passive whose disk hangs hears of an active server, and of the one that replaces that: whichever comes first,
// its term must not go back.
func TestATermDoesNotGoBack(t *testing.T) {
	t.Parallel()
	for _, order := range [][2]uint64{{5, 6}, {6, 5}} {
		f, answers := newFollower(t), map[uint64]<-chan raft.AppendEntriesResponse{}
		answers[order[0]] = f.hears(t, order[0])
		if v := <-f.disk.asked; v != order[0] {
			t.Fatalf("term %d meets the disk", v)
		}
		for len(f.passed) > 0 {
			<-f.passed
		}
		answers[order[1]] = f.hears(t, order[1])
		beside := false
		select {
		case v := <-f.disk.asked:
			beside = true
			t.Errorf("term %d meets the disk beside term %d", v, order[0])
		case <-f.passed: // it waits for raft's main loop
		}
		close(f.disk.let[6])
		if beside || order[0] == 6 {
			<-answers[6]
		}
		close(f.disk.let[5])
		<-answers[5]
		if !beside && order[0] == 5 {
			<-answers[6]
		}
		kept, err := f.disk.GetUint64([]byte(termKey))
		if have := f.CurrentTerm(); err != nil || have != 6 || kept != 6 {
			t.Errorf("after heartbeats of terms %v it is in term %d, on disk %d: %v", order, have, kept, err)
		}
	}
}

// Heartbeats of the term that it is in are answered whatever its main loop waits for.
func TestHeartbeatsAreAnsweredBesideADiskThatHangs(t *testing.T) {
	t.Parallel()
	f := newFollower(t)
	close(f.disk.let[5])
	<-f.hears(t, 5)
	f.hears(t, 5, &raft.Log{Index: 1, Term: 5})
	<-f.log.asked
	for range 3 {
		if r := <-f.hears(t, 5); !r.Success || r.Term != 5 {
			t.Errorf("answered %+v", r)
		}
	}
}

// Raft sets the term for a heartbeat that finds it a candidate, and its main loop may be about to set the next one.
func TestTheTermIsSetByOneAtATime(t *testing.T) {
	t.Parallel()
	store := new(risingTerms)
	kept := newTerms(store)
	key := []byte(termKey)
	kept.SetUint64(key, 1)
	var beats sync.WaitGroup
	stop := make(chan struct{})
	for i := range uint64(4) {
		handle := kept.beside(func(rpc raft.RPC) {
			before := store.term.Load()
			term := rpc.Command.(*raft.AppendEntriesRequest).Term
			if err := kept.SetUint64(key, term); err != nil || term != before || store.term.Load() != before {
				t.Errorf("a heartbeat of term %d sets it in term %d, then %d: %v", term, before, store.term.Load(), err)
			}
		}, func(raft.RPC) {})
		beats.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					handle(raft.RPC{Command: &raft.AppendEntriesRequest{Term: store.term.Load() + i%3 - 1}})
				}
			}
		})
	}
	for term := range uint64(2000) {
		if err := kept.SetUint64(key, term+2); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	beats.Wait()
	if store.back.Load() {
		t.Error("the term went back")
	}
}

// risingTerms is a store of terms that notes when one goes back.
type risingTerms struct {
	raft.StableStore
	term atomic.Uint64
	back atomic.Bool
}

func (s *risingTerms) SetUint64(_ []byte, v uint64) error {
	if s.term.Swap(v) >= v {
		s.back.Store(true)
	}
	return nil
}
