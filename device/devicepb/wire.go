package devicepb

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// errTruncated covers every way bytes can fail to be protobuf at all.
var errTruncated = errors.New("devicepb: malformed protobuf")

// valid makes s fit for a protobuf string.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func appendString(dst []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return appendStringAlways(dst, num, s)
}

func appendStringAlways(dst []byte, num protowire.Number, s string) []byte {
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return protowire.AppendString(dst, valid(s))
}

func appendTime(dst []byte, num protowire.Number, t time.Time) []byte {
	dst, start := openNested(dst, num)
	if s := t.Unix(); s != 0 {
		dst = append(dst, 1<<3|byte(protowire.VarintType))
		dst = protowire.AppendVarint(dst, uint64(s))
	}
	if n := t.Nanosecond(); n != 0 {
		dst = append(dst, 2<<3|byte(protowire.VarintType))
		dst = protowire.AppendVarint(dst, uint64(n))
	}
	return closeNested(dst, start)
}

// openNested begins a nested message whose length is not known yet: one byte
// is kept for it, which is enough for nearly all.
func openNested(dst []byte, num protowire.Number) ([]byte, int) {
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return append(dst, 0), len(dst) + 1
}

// closeNested writes the length of what was appended since openNested, moving
// it when the length needs more than the byte kept.
func closeNested(dst []byte, start int) []byte {
	n := len(dst) - start
	if n < 0x80 {
		dst[start-1] = byte(n)
		return dst
	}
	extra := protowire.SizeVarint(uint64(n)) - 1
	dst = append(dst, make([]byte, extra)...)
	copy(dst[start+extra:], dst[start:start+n])
	protowire.AppendVarint(dst[:start-1], uint64(n))
	return dst
}

// field is one field as it stands on the wire.
type field struct {
	num   protowire.Number
	typ   protowire.Type
	num64 uint64 // varint and fixed values
	bytes []byte // length-delimited values
}

// nextField reads one field off data and answers how many bytes it took.
func nextField(data []byte) (f field, n int, err error) {
	f.num, f.typ, n = protowire.ConsumeTag(data)
	if n < 0 || f.num > protowire.MaxValidNumber {
		return f, 0, errTruncated
	}
	var m int
	switch f.typ {
	case protowire.VarintType:
		f.num64, m = protowire.ConsumeVarint(data[n:])
	case protowire.BytesType:
		f.bytes, m = protowire.ConsumeBytes(data[n:])
	case protowire.Fixed64Type:
		f.num64, m = protowire.ConsumeFixed64(data[n:])
	default:
		m = protowire.ConsumeFieldValue(f.num, f.typ, data[n:])
	}
	if m < 0 {
		return f, 0, errTruncated
	}
	return f, n + m, nil
}

// text copies a string field into *dst.
func (f *field) text(dst *string, what string) error {
	if f.typ != protowire.BytesType {
		return nil // another schema's field: skipped, as the generated code does
	}
	if !utf8.Valid(f.bytes) {
		return fmt.Errorf("devicepb: %s is not valid UTF-8", what)
	}
	*dst = string(f.bytes)
	return nil
}

// stamp is a google.protobuf.Timestamp; fields given twice merge.
type stamp struct {
	present bool
	seconds int64
	nanos   int32
}

func (s *stamp) read(f *field) error {
	if f.typ != protowire.BytesType {
		return nil
	}
	s.present = true
	for data := f.bytes; len(data) > 0; {
		in, n, err := nextField(data)
		if err != nil {
			return err
		}
		data = data[n:]
		if in.typ != protowire.VarintType {
			continue
		}
		switch in.num {
		case 1:
			s.seconds = int64(in.num64)
		case 2:
			s.nanos = int32(in.num64)
		}
	}
	return nil
}

// time is the zero time when the field was absent.
func (s *stamp) time() time.Time {
	if !s.present {
		return time.Time{}
	}
	return time.Unix(s.seconds, int64(s.nanos)).UTC()
}
