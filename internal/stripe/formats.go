package stripe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"

	"github.com/terracotta-go/terracotta/internal/store"
)

// formatNewest is the newest format of log entries, operations and snapshots that
// this software reads and writes. Format 1 is that of the first version, with all
// operations that internal/store had then; whatever an older server would not
// understand is written only once the stripe has agreed on a later format.
//
// The servers of a stripe write the format that they have agreed on by an entry of
// the log (entryFormat), 1 before that. The active server raises it when all configured
// servers are members, in touch, and have said in this run that they read a later one. It is part of
// snapshots, and never goes back: a server that reads less is not let in, and one
// that meets what it does not understand in its log ends and changes nothing.
const formatNewest = 1

const maxFormat = 1 << 15 // an entry has two bytes for it

var errUnknown = fmt.Errorf("an operation of an unknown kind: %w", errLater)

var errFormat = errors.New("the stripe writes a later format")

// sealFormat makes the entry that raises the format: an envelope without
// operations, the format in place of their number.
func sealFormat(now store.Time, format int) []byte {
	env := make([]byte, envelopeSize)
	seal(env, now, format)
	env[0] = entryFormat
	binary.BigEndian.PutUint32(env[1:], crc32.Checksum(env[5:], castagnoli))
	return env
}

// raise applies an entry of the kind entryFormat.
func (f *fsm) raise(entry *raft.Log) any {
	_, format := envelopeTime(entry.Data)
	if err := f.reads(format); err != nil {
		return f.broken(entry.Index, err)
	}
	f.turn.Lock()
	defer f.turn.Unlock()
	f.agreed.Store(max(f.agreed.Load(), int64(format)))
	f.term = entry.Term
	f.applied.Store(max(f.applied.Load(), entry.Index)) // what was applied without the log counts on
	return nil
}

// reads is an error where this software does not read a format.
func (f *fsm) reads(format int) error {
	if format > f.newest {
		return fmt.Errorf("%w, %d, and this version reads up to %d: %w", errFormat, format, f.newest, errLater)
	}
	return nil
}

// format returns what the stripe has agreed on.
func (f *fsm) format() int { return max(1, int(f.agreed.Load())) }

// raiseFormat raises the stripe's format to the newest that all servers read. It is
// called on the active server.
func (s *Stripe) raiseFormat() {
	to := s.fsm.newest
	if to <= s.fsm.format() {
		return
	}
	if s.group != nil {
		config, err := s.configuration()
		if err != nil {
			return
		}
		if len(config.Servers) < len(s.cfg.Members) {
			return // one that is away may come back as it was: of a pair it was removed meanwhile
		}
		for _, m := range config.Servers {
			if string(m.ID) == s.id {
				continue
			}
			p, known := s.group.about(string(m.ID))
			if !known || !s.inTouch(m.ID) {
				return // and one that is down now may be started in the version that it had before
			}
			to = min(to, p.format())
		}
	}
	if to <= s.fsm.format() {
		return
	}
	if err := s.raft.Apply(sealFormat(s.clock.read(), to), enqueueTimeout).Error(); err == nil {
		s.log.Info("all servers of the stripe read a later format: it is written from now on, and older versions can't join any more", "format", to)
	}
}

// format returns the newest format that a server reads.
func (p peer) format() int { return max(1, p.Format) }
