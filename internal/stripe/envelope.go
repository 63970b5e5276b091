package stripe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/terracotta-go/terracotta/internal/store"
)

// One log entry holds one batch of operations in an envelope:
//
//	byte  0      kind and format version of the entry: entryBatch, or entryProbe, which has no operations (incarnation.go has a third)
//	bytes 1-4    CRC-32C of all that follows, big endian
//	bytes 5-12   log time in milliseconds, big endian
//	bytes 13-14  number of operations, big endian
//	then         each operation: its length as uvarint, its bytes
//
// The log has checksums of its own, but it verifies them only for the last
// write before a crash; ours are verified whenever an entry is read back.
const (
	entryBatch       = 1
	entryProbe       = 2 // the servers compare their states at this entry
	entryIncarnation = 4 // of a pair: incarnation.go; one flipped bit makes no kind into another
	entryFormat      = 7 // raises the stripe's format: formats.go
	envelopeSize     = 15
)

// The bounds of a batch. An operation that exceeds maxBatchBytes by itself
// becomes an entry of its own.
const (
	maxBatchOps   = 256
	maxBatchBytes = 512 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errDamaged = errors.New("the checksum does not match: the entry is damaged")
	errLater   = errors.New("written by a later version of this software")
)

// appendOp appends one operation to an envelope that began with envelopeSize bytes.
func appendOp(dst, op []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(op)))
	return append(dst, op...)
}

// opSize is the size of an operation in an envelope, at most.
func opSize(op []byte) int { return len(op) + binary.MaxVarintLen32 }

// seal fills in the head of an envelope whose operations are complete.
func seal(env []byte, now store.Time, count int) {
	stamp(env, now, count)
	binary.BigEndian.PutUint32(env[1:], crc32.Checksum(env[5:], castagnoli))
}

// stamp is seal without a checksum, for an envelope that does not leave memory.
func stamp(env []byte, now store.Time, count int) {
	env[0] = entryBatch
	binary.BigEndian.PutUint64(env[5:], uint64(now))
	binary.BigEndian.PutUint16(env[13:], uint16(count))
}

// checkEnvelope verifies kind and checksum, of entries of any kind.
func checkEnvelope(env []byte) error {
	if len(env) < envelopeSize {
		return fmt.Errorf("an entry has %d bytes; at least %d are needed", len(env), envelopeSize)
	}
	if env[0] != entryBatch && env[0] != entryProbe && env[0] != entryIncarnation && env[0] != entryFormat {
		return fmt.Errorf("entry of kind %d: %w", env[0], errLater)
	}
	if binary.BigEndian.Uint32(env[1:]) != crc32.Checksum(env[5:], castagnoli) {
		return errDamaged
	}
	return nil
}

// openEnvelope verifies an envelope and calls f with its log time and each
// operation in order. The operations alias env.
func openEnvelope(env []byte, f func(now store.Time, op []byte)) error {
	if err := checkEnvelope(env); err != nil {
		return err
	}
	return walkEnvelope(env, f)
}

// walkEnvelope is openEnvelope for an envelope that is verified, or was made here.
func walkEnvelope(env []byte, f func(now store.Time, op []byte)) error {
	if env[0] == entryIncarnation || env[0] == entryFormat {
		return fmt.Errorf("entry of kind %d is no batch", env[0])
	}
	now := store.Time(binary.BigEndian.Uint64(env[5:]))
	count := int(binary.BigEndian.Uint16(env[13:]))
	rest := env[envelopeSize:]
	for i := range count {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return fmt.Errorf("operation %d of %d is cut short", i+1, count)
		}
		f(now, rest[n:n+int(size)])
		rest = rest[n+int(size):]
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes follow the last of %d operations", len(rest), count)
	}
	return nil
}

// envelopeTime is the log time of a verified envelope, and its count.
func envelopeTime(env []byte) (store.Time, int) {
	return store.Time(binary.BigEndian.Uint64(env[5:])), int(binary.BigEndian.Uint16(env[13:]))
}
