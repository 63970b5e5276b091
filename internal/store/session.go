package store

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/terracotta-go/terracotta/internal/wire"
)

const (
	// tombstoneLife is how long at least an ended session is remembered.
	tombstoneLife = 10 * time.Minute
	// longestRequest is how long a request may live whose late commit must still
	// be told that its session has ended.
	longestRequest = 5 * time.Minute
)

// lifeOf returns how long the tombstones of a cluster live: longer than a node may
// stay away and come back with a commit of its longest request.
func lifeOf(c *wire.Cluster) time.Duration {
	return max(tombstoneLife, c.Stripes[c.Stripe].ReconnectWindow+longestRequest)
}

// scratch is memory that one operation after the other uses.
type scratch struct {
	create  wire.Create
	commit  wire.Commit
	changes []change
	record  record
	writer  writer

	forgotten [][]byte // see Store.Forgotten
}

// applyWrite applies what a node numbers: its outcome is remembered.
func (a *step) applyWrite(k kind, d *decoder) wire.Outcome {
	var (
		w          *wire.Write
		create     = &a.scratch.create
		commit     = &a.scratch.commit
		invalidate wire.Invalidate
		renew      wire.Renew
	)
	switch k {
	case kindCreate:
		d.create(create)
		w = &create.Write
	case kindCommit:
		d.commit(commit)
		w = &commit.Write
	case kindInvalidate:
		d.invalidate(&invalidate)
		w = &invalidate.Write
	default:
		d.renew(&renew)
		w = &renew.Write
	}
	if err := d.end(); err != nil {
		return wire.Outcome{Err: err}
	}
	n, out, known := a.admit(w)
	if known {
		return out
	}
	out = wire.Outcome{Version: a.index}
	ds, err := a.dataset(w.Dataset)
	if err == nil {
		switch k {
		case kindCreate:
			err = a.create(ds, create)
		case kindCommit:
			err = a.commit(n, ds, commit, &out)
		case kindInvalidate:
			out.Existed = a.invalidate(ds, &invalidate)
		default:
			out.Token = renew.Token
			err = a.renew(ds, &renew)
		}
	}
	if err != nil {
		if len(err.Text) > maxRefusal { // it quotes names that were given
			err = &wire.Error{Word: err.Word, Text: strings.ToValidUTF8(err.Text[:maxRefusal], "")}
		}
		out = wire.Outcome{Err: err}
	}
	if err != errUnacknowledged {
		a.remember(n, w.Seq, out)
	}
	a.scratch.rest()
	return out
}

// maxSession bounds one session, by the formula. Every request of a session reads
// it whole: one that grew to the size of its resource took three gigabytes and half
// a minute for each answer.
const maxSession = 32 << 20

// grown refuses a session, or another record, that has grown above maxSession.
func grown(what string, old, new uint64) *wire.Error {
	if new <= maxSession || new <= old {
		return nil
	}
	return &wire.Error{Word: wire.ErrTooBig, Text: fmt.Sprintf("the %s would take %d bytes; at most %d are allowed", what, new, maxSession)}
}

func (a *step) create(d *dataset, c *wire.Create) *wire.Error {
	h := hash(c.Key)
	g := d.segmentOf(h)
	if b, _ := g.look(h, c.Key); b != nil {
		if b.kind() == kindTrace {
			if t := b.trace(); !t.leads(a.at) {
				return gone(t.ending())
			}
		}
		return &wire.Error{Word: wire.ErrSessionExists, Text: "a session with this key exists"}
	}
	list, err := a.scratch.gather(c.Set, nil)
	if err != nil {
		return err
	}
	r := &a.scratch.record
	r.make(c, list, a.at, a.index)
	if err := grown("session", 0, r.cost); err != nil {
		return err
	}
	if err := d.fits(0, r.cost); err != nil {
		return err
	}
	if len(r.User) > 0 {
		d.usersMu.Lock()
		defer d.usersMu.Unlock()
		d.enlist(r.User, r.Key)
	}
	b := a.scratch.writer.record(r)
	g.mu.Lock()
	g.put(h, b)
	g.mu.Unlock()
	d.sessions.Add(1)
	return nil
}

func (a *step) commit(n *node, d *dataset, c *wire.Commit, out *wire.Outcome) *wire.Error {
	list, err := a.scratch.gather(c.Set, c.Remove)
	if err != nil {
		return err
	}
	at, err := d.find(c.Key, a.at)
	if err != nil {
		return err
	}
	r := &a.scratch.record
	at.b.read(r)
	old := r.cost
	list, out.Dropped = r.judge(list, c.Token, c.Seq)
	if err := a.tells(n, out); err != nil {
		return err
	}
	r.LastAccess = a.at
	if c.Idle != wire.KeepIdle && c.Idle != r.Idle {
		r.Idle, r.Version = c.Idle, a.index
	}
	if len(list) > 0 {
		r.Version = a.index
		r.change(list, stamp{version: a.index, by: grantOf(c.Token), seq: c.Seq})
		r.weigh()
		err := grown("session", old, r.cost)
		if err == nil {
			err = d.fits(old, r.cost)
		}
		if err != nil {
			return err
		}
	}
	out.Version = r.Version
	b := a.scratch.writer.record(r)
	at.mu.Lock()
	at.put(at.h, b)
	at.mu.Unlock()
	return nil
}

func (a *step) invalidate(d *dataset, c *wire.Invalidate) (existed bool) {
	at, err := d.find(c.Key, a.at)
	if err != nil {
		return false
	}
	a.end(d, at.b, c.Reason)
	return true
}

// end replaces the session b, and the aliases that lead to it, by tombstones.
func (a *step) end(d *dataset, b block, reason []byte) {
	r := &a.scratch.record
	b.clone().read(r) // b goes while its keys are still needed
	if len(r.User) > 0 {
		d.usersMu.Lock()
		defer d.usersMu.Unlock()
		d.delist(r.User, r.Key)
	}
	defer d.lock(append([][]byte{r.Key}, r.aliases...)...)()
	h := hash(r.Key)
	d.segmentOf(h).drop(h, r.Key)
	d.sessions.Add(^uint64(0))
	until := a.at.after(lifeOf(a.cluster))
	old := r.cost
	made := a.bury(d, r.Key, reason, until)
	for _, key := range r.aliases {
		t := d.trace(key)
		old += t.cost()
		if !t.leads(a.at) {
			// Its grace was over before: how it ended stays as it was told.
			made += a.bury(d, key, reasonRenewed, until)
			continue
		}
		made += a.bury(d, key, reason, until)
	}
	d.give(old, made)
}

// trace returns what key, which has a trace, has.
func (d *dataset) trace(key []byte) trace {
	h := hash(key)
	b, _ := d.segmentOf(h).look(h, key)
	return b.trace()
}

// bury leaves a tombstone under key and returns its cost. The caller holds the
// segment's lock and accounts.
func (a *step) bury(d *dataset, key, reason []byte, until Time) uint64 {
	return a.trace(d, &trace{key: key, reason: reason, until: until})
}

// trace puts t in the place of what its key had, which was no session, and returns its cost.
func (a *step) trace(d *dataset, t *trace) uint64 {
	h := hash(t.key)
	d.segmentOf(h).put(h, a.scratch.writer.trace(t))
	return t.cost()
}

func (a *step) renew(d *dataset, c *wire.Renew) *wire.Error {
	at, err := d.find(c.Key, a.at)
	if err != nil {
		return err
	}
	if c.Grace > 0 && !bytes.Equal(at.b.key(), c.Key) {
		return gone(reasonRenewed) // see wire.Renew: two rotations at once are one
	}
	h := hash(c.NewKey)
	into := d.segmentOf(h)
	if taken, _ := into.look(h, c.NewKey); taken != nil {
		return &wire.Error{Word: wire.ErrSessionExists, Text: "the new key is taken"}
	}
	old := &a.scratch.record
	at.b.clone().read(old) // the block goes while its keys are still needed
	r := old.clone()
	r.Key, r.Version, r.LastAccess = c.NewKey, a.index, a.at
	if c.SetUser {
		r.User = c.User
	}
	r.weigh()
	traces, was := a.retrace(d, old, r, c.Grace)
	cost := r.cost
	for _, t := range traces {
		cost += t.cost()
	}
	if err := d.fits(old.cost+was, cost); err != nil {
		return err
	}
	if len(old.User) > 0 || len(r.User) > 0 {
		d.usersMu.Lock()
		defer d.usersMu.Unlock()
		d.delist(old.User, old.Key)
		d.enlist(r.User, r.Key)
	}
	defer d.lock(append([][]byte{old.Key, r.Key}, old.aliases...)...)()
	at.drop(at.h, old.Key)
	into.put(h, a.scratch.writer.record(r))
	for _, t := range traces {
		a.trace(d, t)
	}
	return nil
}

// retrace returns what the keys that led to old become when it moves on to r,
// and what they have cost so far, and sets r's aliases. No key leads on for longer than
// grace: with none, nobody who knows an older key gets in by it.
func (a *step) retrace(d *dataset, old, r *record, grace time.Duration) (traces []*trace, was uint64) {
	buried := a.at.after(lifeOf(a.cluster))
	leave := func(key []byte, until Time) {
		if until <= a.at {
			traces = append(traces, &trace{key: key, reason: reasonRenewed, until: buried})
			return
		}
		traces = append(traces, &trace{key: key, target: r.Key, until: until})
	}
	end := a.at.after(grace)
	for _, key := range old.aliases {
		t := d.trace(key)
		was += t.cost()
		leave(key, min(t.until, end))
	}
	leave(old.Key, end)
	aliases := slices.DeleteFunc(slices.Clone(traces), func(t *trace) bool { return t.target == nil })
	slices.SortFunc(aliases, compareTrace)
	if extra := len(aliases) - maxAliases; extra > 0 {
		for _, t := range aliases[:extra] {
			*t = trace{key: t.key, reason: reasonRenewed, until: buried}
		}
		aliases = aliases[extra:]
	}
	r.aliases = nil
	for _, t := range aliases {
		r.aliases = append(r.aliases, t.key)
	}
	return traces, was
}

// compareTrace orders by end, then key.
func compareTrace(a, b *trace) int {
	if a.until != b.until {
		if a.until < b.until {
			return -1
		}
		return 1
	}
	return bytes.Compare(a.key, b.key)
}
