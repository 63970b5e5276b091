package stripe

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/terracotta-go/terracotta/internal/store"
)

func envelope(now store.Time, ops [][]byte) []byte {
	env := make([]byte, envelopeSize)
	for _, op := range ops {
		env = appendOp(env, op)
	}
	seal(env, now, len(ops))
	return env
}

// Law: what is put in comes out, and any flipped bit is noticed.
func TestEnvelopeLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ops := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 300), 0, maxBatchOps).Draw(t, "ops")
		now := store.Time(rapid.Int64Min(0).Draw(t, "now"))
		env := envelope(now, ops)
		var got [][]byte
		err := openEnvelope(env, func(at store.Time, op []byte) {
			if at != now {
				t.Fatalf("log time %d, not %d", at, now)
			}
			got = append(got, op)
		})
		if err != nil || !slices.EqualFunc(got, ops, bytes.Equal) {
			t.Fatalf("%d operations of %d, %v", len(got), len(ops), err)
		}
		bit := rapid.IntRange(0, 8*len(env)-1).Draw(t, "bit")
		env[bit/8] ^= 1 << (bit % 8)
		if checkEnvelope(env) == nil {
			t.Fatalf("flipped bit %d was not noticed", bit)
		}
	})
}

func TestEnvelopeOfALaterVersion(t *testing.T) {
	env := envelope(1, [][]byte{[]byte("op")})
	env[0] = entryIncarnation + 1
	if err := checkEnvelope(env); !errors.Is(err, errLater) {
		t.Error(err)
	}
}

func FuzzOpenEnvelope(f *testing.F) {
	f.Add(envelope(1, [][]byte{[]byte("a"), nil, []byte("ccc")}))
	f.Add([]byte{entryBatch})
	f.Fuzz(func(t *testing.T, b []byte) {
		openEnvelope(b, func(store.Time, []byte) {})
		if len(b) >= envelopeSize { // and with a right checksum
			now, count := envelopeTime(b)
			b = bytes.Clone(b)
			seal(b, now, count)
			openEnvelope(b, func(store.Time, []byte) {})
		}
	})
}
