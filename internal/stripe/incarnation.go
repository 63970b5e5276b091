package stripe

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// Incarnation is a stretch of a pair's history. A new one begins whenever one of
// the two servers goes on without the other; where both do, because they can't
// hear each other, there are two of the same number with different owners.
type Incarnation struct {
	Number    uint64 `json:"number"`               // from 1
	Owner     string `json:"owner"`                // identity of the server that began it
	Forced    bool   `json:"forced,omitempty"`     // begun without a majority: by the stand-in for the absent server
	WasActive bool   `json:"was-active,omitempty"` // the owner was the active one before

	// Where it forks off the one before: all that the other server can have is
	// up to this entry of the log and this index of the store, and this log time.
	Fork    uint64     `json:"fork"`
	Version uint64     `json:"version"`
	Time    store.Time `json:"time"`

	// Applied is the store index at which the log began it, beyond Version by what
	// its owner had agreed on alone before. 0: a version wrote it that did not say.
	Applied uint64 `json:"applied,omitempty"`

	Began time.Time `json:"began"` // the owner's wall clock, for people
}

func (i Incarnation) same(o Incarnation) bool { return i.Number == o.Number && i.Owner == o.Owner }

// beats reports whether the data of i is kept where both went on by themselves:
// the higher number, else the side of more service, where both tell of theirs, else
// the one that was active at the fork.
func (i Incarnation) beats(o Incarnation, ours, theirs service) bool {
	switch {
	case i.Number != o.Number:
		return i.Number > o.Number
	case ours.told() && theirs.told() && ours != theirs:
		return ours > theirs
	case i.WasActive != o.WasActive:
		return i.WasActive
	}
	return i.Owner > o.Owner
}

func (i Incarnation) String() string {
	if i.Number == 0 {
		return "none"
	}
	return fmt.Sprintf("%d of server %.8s", i.Number, i.Owner)
}

// history is the incarnations that a server's state went through, the oldest
// first. It is never changed in place.
type history []Incarnation

// maxHistory bounds a history. A server whose own incarnation is so long ago that
// the other one has forgotten it is taken for a stranger: its data is set aside.
const maxHistory = 64

// tip is the incarnation that a state is in; the zero one before the first.
func (h history) tip() Incarnation {
	if len(h) == 0 {
		return Incarnation{}
	}
	return h[len(h)-1]
}

func (h history) contains(i Incarnation) bool {
	return i.Number == 0 || slices.ContainsFunc(h, i.same)
}

// with returns h and i behind it; h itself where i is in it already.
func (h history) with(i Incarnation) history {
	if h.contains(i) {
		return h
	}
	n := append(slices.Clone(h), i)
	return n[max(0, len(n)-maxHistory):]
}

// forkWith returns where h and o part: the first incarnations that only one of
// them has. Either may be zero, where it is the beginning of the other.
func (h history) forkWith(o history) (ours, theirs Incarnation) {
	for _, i := range h {
		if !o.contains(i) {
			ours = i
			break
		}
	}
	for _, i := range o {
		if !h.contains(i) {
			theirs = i
			break
		}
	}
	return ours, theirs
}

// name stands for an incarnation in tokens; 0 is that of none.
func (i Incarnation) name() uint32 {
	if i.Number == 0 {
		return 0
	}
	return max(1, crc32.Checksum(fmt.Appendf(nil, "%d %s", i.Number, i.Owner), castagnoli))
}

// branch names h in tokens: its tip, and what the tip follows. The number alone would
// not do: the two sides of a split brain have the same. With what is followed, a server
// that never heard of the tip knows where its own history parts from that one.
func (h history) branch() uint64 {
	if len(h) < 2 {
		return uint64(h.tip().name()) << 32
	}
	return uint64(h.tip().name())<<32 | uint64(h[len(h)-2].name())
}

// covers returns up to which store index the state that a token was given for is
// also h's; 0 where that is not known. The first rule that fits:
//
//   - The token is of h's tip: its own index.
//   - Of an incarnation in h that is over: at most where the next one was applied,
//     behind which nobody on this branch gave such a token. Somebody on another one
//     may have: a server that had just removed its partner.
//   - Of an incarnation that follows one in h: at most where h's own successor
//     of that one forks.
func (h history) covers(t wire.Token) uint64 {
	if t.Incarnation == h.branch() {
		return t.Index
	}
	tip, before := uint32(t.Incarnation>>32), uint32(t.Incarnation)
	if t.Incarnation == 0 && h[0].Number == 1 { // from before the stripe was a pair
		return min(t.Index, h[0].until())
	}
	for i := range len(h) - 1 {
		if h[:i+1].branch() == t.Incarnation || i == 0 && tip == h[0].name() {
			return min(t.Index, h[i+1].until())
		}
	}
	for i := range len(h) - 1 {
		if h[i].name() == before {
			return min(t.Index, h[i+1].Version)
		}
	}
	return 0
}

// until is up to which store index the incarnation before i gave tokens.
func (i Incarnation) until() uint64 { return max(i.Version, i.Applied) }

// incarnationFile lies beside identity.json, and is as durable.
const incarnationFile = "incarnation.json"

// saved is the content of incarnationFile.
type saved struct {
	Format  int     `json:"format"`
	History history `json:"history"`

	// Reserved is the number that this server takes when it goes on alone as the
	// active one: written before the partner gets its vote, so that no write to
	// disk is needed when the partner is lost. State that has this server as its
	// only voter while a number is reserved is of that incarnation. 0: none.
	Reserved uint64 `json:"reserved,omitempty"`
	// Doubt says that the partner was removed, and that it is not certain that it
	// had not gone on by itself before: nothing was acknowledged since.
	Doubt bool `json:"doubt,omitempty"`
	// Service is what this server has done for clients in the last incarnation, alone.
	Service service `json:"service,omitempty"`
}

const maxSaved = 64 << 10 // bytes

// readSaved reads dir's incarnations; the zero value where there are none.
func readSaved(dir string) (saved, error) {
	path := filepath.Join(dir, incarnationFile)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return saved{}, nil
	case err != nil:
		return saved{}, explain(dir, err)
	case !info.Mode().IsRegular() || info.Size() > maxSaved:
		return saved{}, fmt.Errorf("%q is not the file that it was: put it back from a backup", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return saved{}, explain(dir, err)
	}
	var s saved
	if err := json.Unmarshal(b, &s); err != nil {
		return saved{}, fmt.Errorf("%q is damaged (%w): put it back from a backup, or move the folder away to start empty", path, err)
	}
	if s.Format > dataFormat {
		return saved{}, fmt.Errorf("%q is of a later version (format %d): start the newer version that wrote it", path, s.Format)
	}
	return s, nil
}

func (s saved) write(dir string) error {
	s.Format = dataFormat
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeAtomic(filepath.Join(dir, incarnationFile), append(b, '\n'))
}

// An incarnation in the log has an envelope of its own:
//
//	byte  0      entryIncarnation
//	bytes 1-4    CRC-32C of all that follows, big endian
//	then         the Incarnation as JSON
func incarnationEntry(i Incarnation) []byte {
	b, err := json.Marshal(i)
	if err != nil {
		panic(err) // it has nothing that JSON does not know
	}
	env := append([]byte{entryIncarnation, 0, 0, 0, 0}, b...)
	binary.BigEndian.PutUint32(env[1:], crc32.Checksum(env[5:], castagnoli))
	return env
}

func parseIncarnation(env []byte) (i Incarnation, err error) {
	if len(env) < 5 || env[0] != entryIncarnation {
		return i, errors.New("not an incarnation")
	}
	if binary.BigEndian.Uint32(env[1:]) != crc32.Checksum(env[5:], castagnoli) {
		return i, errDamaged
	}
	return i, json.Unmarshal(env[5:], &i)
}

// appendHistory appends h as it stands in a snapshot: its length, JSON, CRC-32C.
func appendHistory(dst []byte, h history) []byte {
	b, err := json.Marshal(h)
	if err != nil {
		panic(err)
	}
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	dst = append(dst, b...)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(b, castagnoli))
}

func readHistory(r *bufio.Reader) (history, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if n > maxSaved {
		return nil, fmt.Errorf("a history of %d bytes", n)
	}
	b := make([]byte, n+4)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	if binary.BigEndian.Uint32(b[n:]) != crc32.Checksum(b[:n], castagnoli) {
		return nil, errDamaged
	}
	var h history
	return h, json.Unmarshal(b[:n], &h)
}
