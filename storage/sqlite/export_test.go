package sqlite

import (
	"context"
	"database/sql"

	"github.com/tributary-iot/tributary/device"
)

// The codecs, for the tests outside the package.

// Record is a message as blocks hold it.
type Record struct {
	Pos          device.Position
	Stored, Recv int64
	Body         []byte
}

// EncodeBlock encodes records as a sealed block, or as a hot row.
func EncodeBlock(hot bool, in []Record) ([]byte, error) {
	rs := make([]record, len(in))
	for i, r := range in {
		rs[i] = record{pos: r.Pos, stored: r.Stored, recv: r.Recv, body: r.Body}
	}
	if hot {
		return new(hotScratch).encode(rs), nil
	}
	z, err := newSqueezer()
	if err != nil {
		return nil, err
	}
	return z.block(rs), nil
}

// DecodeBlock decodes either.
func DecodeBlock(b []byte) ([]Record, error) {
	rs, err := decodeBlock(b)
	out := make([]Record, len(rs))
	for i, r := range rs {
		out[i] = Record{r.pos, r.stored, r.recv, r.body}
	}
	return out, err
}

// Sample is a point as chunks hold it.
type Sample struct {
	Micros int64
	Value  device.Value
}

// EncodeChunk encodes points of one kind with rising times.
func EncodeChunk(in []Sample) ([]byte, error) {
	z, err := newSqueezer()
	if err != nil {
		return nil, err
	}
	ps, texts := make([]point, len(in)), []string(nil)
	for i, x := range in {
		ps[i] = point{time: x.Micros, kind: x.Value.Kind(), bits: valueBits(x.Value)}
		if isText(ps[i].kind) {
			ps[i].bits = uint64(len(texts))
			texts = append(texts, x.Value.Text())
		}
	}
	return z.chunk(ps, texts), nil
}

// DecodeChunk undoes EncodeChunk.
func DecodeChunk(b []byte) ([]Sample, error) {
	ps, texts, err := decodeChunk(b)
	out := make([]Sample, len(ps))
	for i, p := range ps {
		out[i] = Sample{p.time, makeValue(p, texts)}
	}
	return out, err
}

// Forget makes the next Write behave as after a commit whose outcome is not
// known.
func (s *Store) Forget() {
	s.writing <- struct{}{}
	s.stale = true
	<-s.writing
}

// SealUnheard seals everything, but as if the answer to the commit of each
// seal had been an error: the file has it and the store does not know.
func (s *Store) SealUnheard(ctx context.Context) error {
	s.writing <- struct{}{}
	s.rotateAged(0)
	<-s.writing
	s.sealing.Lock()
	defer s.sealing.Unlock()
	for _, h := range s.lineup().queue[:1] {
		sealed, err := encodeHead(h)
		if err == nil {
			err = s.writeLast(ctx, sealed.devices)
		}
		if err == nil {
			err = inTx(ctx, s.writer, func(tx *sql.Tx) error { return s.sealInto(tx, h, sealed) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// KeyTables counts the tables of keys.
func (s *Store) KeyTables(ctx context.Context) (n int) {
	if err := s.writer.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE name GLOB 'key_[0-9]*'`).Scan(&n); err != nil {
		panic(err)
	}
	return n
}
