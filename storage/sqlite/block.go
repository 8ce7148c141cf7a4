package sqlite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/tributary-iot/tributary/device"
)

// A block is a run of messages, as the stream's own bytes. Hot rows are blocks
// in stream order, squeezed fast; sealed blocks are of one device, by received
// time, squeezed well. Layout: codec byte, then (compressed) the number of
// records, for each record its varints (epoch, sequence, stored and received
// time as differences to the record before, and the body's length), then the
// bodies one after the other.

const (
	codecRaw  = 0
	codecZstd = 1
	codecS2   = 2

	maxBodyBytes  = 32 << 20 // a message larger than this cannot be stored
	maxBlockBytes = 64 << 20 // no block is larger when decompressed
	blockBytes    = 256 << 10
	blockMessages = 2048
	hotBlockBytes = 8 << 20
	hotMessages   = 1 << 16
	recordHead    = 16 // bytes of a record's varints, about
)

var errDamaged = errors.New("the file is damaged")

func damaged(what string) error { return fmt.Errorf("%w: %s", errDamaged, what) }

// record is a message at its place. Times are microseconds since 1970.
type record struct {
	pos    device.Position
	stored int64
	recv   int64
	body   []byte
}

// before orders messages as Messages answers them.
func (r *record) before(o *record) bool {
	return r.recv < o.recv || r.recv == o.recv && r.pos.Before(o.pos)
}

// appendRecords writes the layout without codec byte and compression.
func appendRecords(dst []byte, rs []record) []byte {
	size := binary.MaxVarintLen64
	for i := range rs {
		size += len(rs[i].body) + recordHead
	}
	dst = slices.Grow(dst, size)
	dst = binary.AppendUvarint(dst, uint64(len(rs)))
	var prev record
	for i := range rs {
		r := &rs[i]
		dst = binary.AppendVarint(dst, int64(r.pos.Epoch-prev.pos.Epoch))
		dst = binary.AppendVarint(dst, int64(r.pos.Seq-prev.pos.Seq))
		dst = binary.AppendVarint(dst, r.stored-prev.stored)
		dst = binary.AppendVarint(dst, r.recv-prev.recv)
		dst = binary.AppendUvarint(dst, uint64(len(r.body)))
		prev = *r
	}
	for i := range rs {
		dst = append(dst, rs[i].body...)
	}
	return dst
}

func readRecords(b []byte) ([]record, error) {
	in := cursorReader{b: b}
	n := in.uvarint()
	if n > hotMessages || n > uint64(len(b))/5 { // a record takes five bytes at least
		return nil, damaged("block counts more messages than it has bytes for")
	}
	rs := make([]record, n)
	var prev record
	var total uint64
	sizes := make([]uint64, n)
	for i := range rs {
		r := &rs[i]
		r.pos.Epoch = prev.pos.Epoch + uint64(in.varint())
		r.pos.Seq = prev.pos.Seq + uint64(in.varint())
		r.stored = prev.stored + in.varint()
		r.recv = prev.recv + in.varint()
		sizes[i] = in.uvarint()
		if sizes[i] > uint64(len(b)) {
			return nil, damaged("block has a message longer than itself")
		}
		total += sizes[i]
		prev = *r
	}
	if in.bad || total != uint64(len(in.b)) {
		return nil, damaged("block lengths do not add up")
	}
	at := uint64(0)
	for i := range rs {
		rs[i].body = in.b[at : at+sizes[i] : at+sizes[i]]
		at += sizes[i]
	}
	return rs, nil
}

// squeezer compresses sealed blocks; not safe for concurrent use.
type squeezer struct {
	enc      *zstd.Encoder
	raw, out []byte
}

func newSqueezer() (*squeezer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithWindowSize(blockBytes), zstd.WithLowerEncoderMem(true))
	return &squeezer{enc: enc}, err
}

// block encodes records of one device for good.
func (z *squeezer) block(rs []record) []byte {
	z.raw = appendRecords(z.raw[:0], rs)
	return z.squeeze(z.raw)
}

// squeeze answers codec byte and raw, compressed when that is smaller.
func (z *squeezer) squeeze(raw []byte) []byte {
	z.out = z.enc.EncodeAll(raw, append(z.out[:0], codecZstd))
	if len(z.out) > len(raw) {
		z.out = append(append(z.out[:0], codecRaw), raw...)
	}
	return bytes.Clone(z.out) // of exact size: it waits for the transaction
}

// hotScratch is what encoding a hot row needs for a moment. It is kept from one
// write to the next: a row is some hundred kilobytes, hotBlockBytes at most, and
// there are forty a second.
type hotScratch struct {
	records    []record
	raw, block []byte
}

// encode writes records in stream order, quickly. The answer is good until the
// next call.
func (h *hotScratch) encode(rs []record) []byte {
	h.raw = appendRecords(h.raw[:0], rs)
	most := 1 + s2.MaxEncodedLen(len(h.raw))
	h.block = slices.Grow(h.block[:0], most)[:most]
	h.block[0] = codecS2
	return h.block[:1+len(s2.Encode(h.block[1:], h.raw))]
}

// decodeBlock reads any block; damaged bytes give an error.
func decodeBlock(b []byte) ([]record, error) {
	raw, err := expand(b)
	if err != nil {
		return nil, err
	}
	return readRecords(raw)
}

// expand undoes squeeze and S2; the result shares b's memory when b is raw.
func expand(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, damaged("empty block")
	}
	switch b[0] {
	case codecRaw:
		return b[1:], nil
	case codecZstd:
		raw, err := zstdDecoder().DecodeAll(b[1:], nil)
		if err != nil {
			return nil, fmt.Errorf("%w: block: %w", errDamaged, err)
		}
		return raw, nil
	case codecS2:
		if n, err := s2.DecodedLen(b[1:]); err != nil || n > maxBlockBytes {
			return nil, damaged("block of impossible size")
		}
		raw, err := s2.Decode(nil, b[1:])
		if err != nil {
			return nil, fmt.Errorf("%w: block: %w", errDamaged, err)
		}
		return raw, nil
	}
	return nil, damaged(fmt.Sprintf("block of unknown codec %d", b[0]))
}

// zstdDecoder is one for all: DecodeAll is safe for concurrent use and keeps
// no state between calls.
var zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxBlockBytes))
	if err != nil {
		panic("sqlite: zstd decoder: " + err.Error()) // the options above are constants
	}
	return d
})

// cursorReader reads varints; after the first that is not there, bad is true
// and every further one is 0.
type cursorReader struct {
	b   []byte
	bad bool
}

func (c *cursorReader) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursorReader) varint() int64 {
	u := c.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// take gives the next n bytes, nil when there are fewer.
func (c *cursorReader) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.bad, c.b = true, nil
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *cursorReader) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}
