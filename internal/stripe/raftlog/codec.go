package raftlog

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// codec writes entries as raft-wal's own does, into memory that is used again: raft-wal takes
// new memory for each entry and copies from there what it writes, so that a log under load
// makes its own size of garbage. It is for one goroutine.
type codec struct {
	wal.BinaryCodec
	asked bool   // ID was, once
	b     []byte // the entries of one write, one behind the other
}

// codecBytes is the most that is kept for the next write.
const codecBytes = 1 << 20

// ID implements wal.Codec. raft-wal (v0.4.2) takes a codec from outside only with an ID that
// it gives to no file (options.go), and opens only files with the codec's ID (wal.go). It
// asks in this order; what is written here are the bytes of its own codec.
func (c *codec) ID() uint64 {
	if !c.asked {
		c.asked = true
		return wal.FirstExternalCodecID
	}
	return wal.CodecBinaryV1
}

// begin is called before entries are written: nobody reads those of the write before any more.
func (c *codec) begin() {
	if cap(c.b) > codecBytes {
		c.b = nil
	}
	c.b = c.b[:0]
}

// Encode implements wal.Codec.
func (c *codec) Encode(entry *raft.Log, w io.Writer) error {
	to, ok := w.(*bytes.Buffer)
	if !ok || to.Len() > 0 {
		return c.BinaryCodec.Encode(entry, w)
	}
	from := len(c.b)
	b := binary.AppendUvarint(c.b, entry.Index)
	b = binary.AppendUvarint(b, entry.Term)
	b = binary.AppendUvarint(b, uint64(entry.Type))
	b = binary.AppendUvarint(b, uint64(len(entry.Data)))
	b = append(b, entry.Data...)
	b = binary.AppendUvarint(b, uint64(len(entry.Extensions)))
	b = append(b, entry.Extensions...)
	b, err := entry.AppendedAt.AppendBinary(b)
	if err != nil {
		return err
	}
	c.b = b
	*to = *bytes.NewBuffer(b[from:len(b):len(b)])
	return nil
}
