package stripe

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/store"
)

// Where both servers of a pair went on by themselves, the data of one is set aside
// in a folder of its own in the data root, never deleted, with these files in it.
const (
	lostFile = "lost.json"  // LostChanges; in the data root itself it asks the next start to set the data aside
	lostList = "lost.jsonl" // one LostChange a line
)

// LostChanges tells what was set aside after a split brain.
type LostChanges struct {
	Folder  string      `json:"folder"`           // within the data root; "" with memory only
	Kept    Incarnation `json:"kept"`             // the partner's, whose data goes on
	Aside   Incarnation `json:"aside"`            // this server's at that time
	Changes int         `json:"changes"`          // records that were changed or ended here beyond the fork
	Fault   string      `json:"fault,omitempty"`  // why the list is not complete
	Found   time.Time   `json:"found"`            // by this server's clock
	Server  string      `json:"server,omitempty"` // the identity that it had
}

// LostChange is a record that was changed beyond the fork.
type LostChange struct {
	Dataset string `json:"dataset"`
	Key     string `json:"key,omitempty"`
	Bytes   []byte `json:"key-bytes,omitempty"` // instead of Key where that is no text
	Version uint64 `json:"version,omitempty"`   // of the record; none where it ended
	Ended   string `json:"ended,omitempty"`     // why; "deleted" of a key of Redis commands
}

// maxLostLogged is how many lost changes are logged where there is no file for them.
const maxLostLogged = 1000

// renewFile in the data root asks the next start to set the data aside, as lostFile
// does after a split brain.
const renewFile = "renew.json"

// order is what lostFile and renewFile have in common.
type order struct {
	Folder  string `json:"folder"`        // within the data root
	Why     string `json:"why,omitempty"` // of renewFile
	Changes int    `json:"changes,omitempty"`
}

// Lost returns a channel that is closed when this server's data is to be set aside,
// because its partner's is kept after a split brain, or because it differs from the
// active server's: Close this server, then Open it again on a new store, and it
// joins as a new server. It is never closed where the stripe has one server.
func (s *Stripe) Lost() <-chan struct{} { return s.lost }

// startAnew asks for a new start of this server that sets its data aside.
func (s *Stripe) startAnew(why string) {
	select {
	case <-s.lost:
		return // that is under way
	default:
	}
	if s.root != nil {
		if err := orderRenewal(s.root.dir, why); err != nil {
			s.log.Error("this server must start anew, and that could not be noted; trying again", "why", why, "error", err)
			return
		}
	}
	s.log.Error("this server starts anew", "why", why)
	s.lose()
}

// lose closes s.lost.
func (s *Stripe) lose() { s.loseOnce.Do(func() { close(s.lost) }) }

// orderRenewal makes the next start on dir set the data there aside.
func orderRenewal(dir, why string) error {
	b, err := json.MarshalIndent(order{Folder: "set-aside-" + time.Now().UTC().Format("20060102T150405.000"), Why: why}, "", "  ")
	if err != nil {
		return err
	}
	return writeAtomic(filepath.Join(dir, renewFile), append(b, '\n'))
}

// forkedAt returns from which store index and log time on this server's changes
// are its own.
func (p *pair) forkedAt() (uint64, store.Time) {
	p.mu.Lock()
	mine, theirs := p.kept.History, p.partner.History
	p.mu.Unlock()
	if past := p.s.fsm.history(); past.contains(mine.tip()) {
		mine = past // it knows more
	}
	ours, other := mine.forkWith(theirs)
	since, after := uint64(math.MaxUint64), store.Time(math.MaxInt64)
	for _, i := range []Incarnation{ours, other} {
		if i.Number > 0 && (!i.Forced || i.Version > 0) && i.Version < since {
			since, after = i.Version, i.Time
		}
	}
	switch {
	case since != math.MaxUint64:
		return since, after
	case ours.Forced: // and never applied: nothing was changed in it
		return p.s.fsm.m.Index(), p.s.fsm.m.Now()
	}
	return 0, 0
}

// reportLost lists what is lost, and asks the next start to set the data aside. It
// is called by Close, when raft has ended.
func (p *pair) reportLost() error {
	since, after := p.forkedAt()
	fault := p.applyRest()
	if missed := p.s.fsm.deleted.fault(); missed != "" {
		fault = errors.Join(fault, errors.New(missed))
	}
	p.mu.Lock()
	l := LostChanges{
		Kept: *p.lostTo, Aside: p.kept.History.tip(), Found: time.Now().UTC().Truncate(time.Second), Server: p.s.id,
	}
	p.mu.Unlock()
	if fault != nil {
		l.Fault = fault.Error()
	}
	if p.s.root == nil {
		return p.logLost(l, since, after)
	}
	l.Folder = fmt.Sprintf("aside-%s-incarnation-%d", l.Found.Format("2006-01-02T15-04-05"), l.Aside.Number)
	dir := p.s.root.dir
	f, err := os.Create(filepath.Join(dir, lostList))
	if err != nil {
		return err
	}
	defer f.Close()
	out := bufio.NewWriter(f)
	enc := json.NewEncoder(out)
	err = p.lost(since, after, func(c LostChange) error {
		l.Changes++
		return enc.Encode(c)
	})
	if err := errors.Join(err, out.Flush(), f.Sync()); err != nil {
		return fmt.Errorf("list what is lost: %w", err)
	}
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	p.log.Error("changes that were acknowledged here are lost: the partner's data is kept", "changes", l.Changes, "folder", l.Folder, "list", lostList)
	return writeAtomic(filepath.Join(dir, lostFile), append(b, '\n'))
}

func lostChange(c store.Change) LostChange {
	l := LostChange{Dataset: c.Dataset, Version: c.Version, Ended: c.Ended}
	if utf8.Valid(c.Key) {
		l.Key = string(c.Key)
	} else {
		l.Bytes = slices.Clone(c.Key)
	}
	return l
}

func (p *pair) logLost(l LostChanges, since uint64, after store.Time) error {
	err := p.lost(since, after, func(c LostChange) error {
		if l.Changes++; l.Changes <= maxLostLogged {
			p.log.Error("a change is lost", "dataset", c.Dataset, "key", c.Key+string(c.Bytes), "version", c.Version, "ended", c.Ended)
		}
		return nil
	})
	p.log.Error("changes that were acknowledged here are lost: the partner's data is kept", "changes", l.Changes, "fault", l.Fault)
	return err
}

// applyRest applies what is in the log and was not applied yet, for the list only.
func (p *pair) applyRest() error {
	last, err := p.s.logs.LastIndex()
	if err != nil {
		return err
	}
	for i := p.s.fsm.applied.Load() + 1; i <= last; i++ {
		var entry raft.Log
		if err := p.s.logs.GetLog(i, &entry); err != nil {
			return err
		}
		if entry.Type != raft.LogCommand {
			continue
		}
		if err, bad := p.s.fsm.Apply(&entry).(error); bad {
			return err
		}
	}
	return nil
}

// setAside moves the state away where that was ordered, and gives this server a new
// identity. A crash in the midst of it is gone on with at the next start.
func (r *dataRoot) setAside(log *slog.Logger) error {
	for _, file := range []string{lostFile, renewFile} {
		path := filepath.Join(r.dir, file)
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		o := order{Why: "split brain"}
		if err == nil {
			err = json.Unmarshal(b, &o)
		}
		if err == nil && (o.Folder == "" || o.Folder != filepath.Base(o.Folder)) {
			err = fmt.Errorf("it names the folder %q", o.Folder)
		}
		if err != nil {
			return fmt.Errorf("%q cannot be used: %w: move the folder away to join with an empty one", path, err)
		}
		if err := r.moveAway(o.Folder, file); err != nil {
			return explain(r.dir, err)
		}
		log.Error("the data of this server is set aside: it joins the stripe as a new one", "folder", filepath.Join(r.dir, o.Folder), "why", o.Why, "changes", o.Changes)
		if err := r.identify(); err != nil {
			return err
		}
	}
	return nil
}

// moveAway moves the state into a folder of the data root, and the order for that.
func (r *dataRoot) moveAway(folder, order string) error {
	aside := filepath.Join(r.dir, folder)
	if err := os.MkdirAll(aside, 0o750); err != nil {
		return err
	}
	// The identity goes after the state that it belongs to, and the order to do it last.
	for _, name := range []string{walFolder, snapFolder, incarnationFile, lostList, deletedFile, divergedFile, stripeFile, identityFile, order} {
		if _, err := os.Lstat(filepath.Join(aside, name)); err == nil {
			continue // by the start before this one
		}
		err := os.Rename(filepath.Join(r.dir, name), filepath.Join(aside, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := errors.Join(syncDir(aside), syncDir(r.dir)); err != nil {
			return err
		}
	}
	for _, sub := range []string{walFolder, snapFolder} {
		if err := os.MkdirAll(filepath.Join(r.dir, sub), 0o750); err != nil {
			return err
		}
	}
	return nil
}

// lastLost returns what was set aside last in dir; nil where nothing is. An
// operator who has seen to it moves the folder away.
func lastLost(dir string) *LostChanges {
	list, _ := filepath.Glob(filepath.Join(dir, "aside-*", lostFile))
	slices.Sort(list)
	for _, path := range slices.Backward(list) {
		var l LostChanges
		if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &l) == nil {
			return &l
		}
	}
	return nil
}
