package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// ErrMalformed is the root of every decoding error: the bytes are not AMQP.
var ErrMalformed = errors.New("malformed AMQP data")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

var errShort = malformed("the data ends inside a value")

// reader walks over encoded values. The first error sticks and everything after
// it reads as zero, so that callers check err once.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// take gives the next n bytes, still part of the input.
func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail(errShort)
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// size reads a one- or four-byte size; wide is bit 4 of the format code
// (0xa0 against 0xb0, 0xc0 against 0xd0, 0xe0 against 0xf0).
func (r *reader) size(code byte) int {
	if code&0x10 == 0 {
		return int(r.byte())
	}
	n := r.u32()
	if uint64(n) > uint64(len(r.b)) {
		r.fail(errShort)
		return 0
	}
	return int(n)
}

// compound opens a list, map or array: its elements as a reader of their own,
// and how many it says there are.
func (r *reader) compound(code byte) (reader, int) {
	body := reader{b: r.take(r.size(code)), err: r.err}
	count := body.count(code)
	if body.err != nil {
		r.fail(body.err)
	}
	return body, count
}

func (r *reader) count(code byte) int {
	if code&0x10 == 0 {
		return int(r.byte())
	}
	n := r.u32()
	if n > math.MaxInt32 {
		r.fail(malformed("a count of %d", n))
		return 0
	}
	return int(n)
}

// null eats a null value.
func (r *reader) null() bool {
	if len(r.b) > 0 && r.b[0] == codeNull {
		r.b = r.b[1:]
		return true
	}
	return false
}

// skip steps over one value without looking inside: the format code alone tells
// its size (part 1, section 2), whatever the type.
func (r *reader) skip() {
	code := r.byte()
	for depth := 0; code == codeDescribed && r.err == nil; depth++ {
		if depth == MaxDepth {
			r.fail(malformed("descriptors nest deeper than %d", MaxDepth))
			return
		}
		if len(r.b) > 0 && r.b[0] == codeDescribed {
			r.fail(malformed("a described descriptor"))
			return
		}
		r.skip()
		code = r.byte()
	}
	if r.err != nil {
		return
	}
	switch code >> 4 {
	case 0x4:
	case 0x5:
		r.take(1)
	case 0x6:
		r.take(2)
	case 0x7:
		r.take(4)
	case 0x8:
		r.take(8)
	case 0x9:
		r.take(16)
	case 0xa, 0xb, 0xc, 0xd, 0xe, 0xf:
		r.take(r.size(code))
	default:
		r.fail(malformed("unknown format code 0x%02x", code))
	}
}

// descriptor reads the start of a described type whose descriptor is a ulong.
func (r *reader) descriptor() uint64 {
	if c := r.byte(); c != codeDescribed {
		r.fail(malformed("a described type is expected, not format code 0x%02x", c))
		return 0
	}
	switch c := r.byte(); c {
	case codeUlong8:
		return uint64(r.byte())
	case codeUlong:
		return r.u64()
	case codeUlong0:
		return 0
	case codeSym8, codeSym32:
		return symbolicDescriptors[string(r.take(r.size(c)))]
	default:
		r.fail(malformed("a descriptor of format code 0x%02x", c))
	}
	return 0
}

// bytes reads a binary; the result is part of the input.
func (r *reader) bytes() []byte {
	switch c := r.byte(); c {
	case codeBin8, codeBin32:
		return r.take(r.size(c))
	default:
		r.fail(malformed("a binary is expected, not format code 0x%02x", c))
	}
	return nil
}

func (r *reader) string() string {
	switch c := r.byte(); c {
	case codeStr8, codeStr32:
		return r.text(c)
	default:
		r.fail(malformed("a string is expected, not format code 0x%02x", c))
	}
	return ""
}

// text reads what follows the format code of a string.
func (r *reader) text(code byte) string {
	b := r.take(r.size(code))
	if !utf8.Valid(b) {
		r.fail(malformed("a string that is not UTF-8"))
		return ""
	}
	return string(b)
}

func (r *reader) symbol() Symbol {
	switch c := r.byte(); c {
	case codeSym8, codeSym32:
		return Symbol(r.take(r.size(c)))
	default:
		r.fail(malformed("a symbol is expected, not format code 0x%02x", c))
	}
	return ""
}

func (r *reader) bool() bool {
	switch c := r.byte(); c {
	case codeTrue:
		return true
	case codeFalse:
		return false
	case codeBool:
		b := r.byte()
		if b > 1 {
			r.fail(malformed("a boolean of %d", b))
		}
		return b == 1
	default:
		r.fail(malformed("a boolean is expected, not format code 0x%02x", c))
	}
	return false
}

func (r *reader) ubyte() uint8 {
	if c := r.byte(); c != codeUbyte {
		r.fail(malformed("a ubyte is expected, not format code 0x%02x", c))
	}
	return r.byte()
}

func (r *reader) ushort() uint16 {
	if c := r.byte(); c != codeUshort {
		r.fail(malformed("a ushort is expected, not format code 0x%02x", c))
	}
	return r.u16()
}

func (r *reader) uint() uint32 {
	switch c := r.byte(); c {
	case codeUint0:
		return 0
	case codeUint8:
		return uint32(r.byte())
	case codeUint:
		return r.u32()
	default:
		r.fail(malformed("a uint is expected, not format code 0x%02x", c))
	}
	return 0
}

func (r *reader) ulong() uint64 {
	switch c := r.byte(); c {
	case codeUlong0:
		return 0
	case codeUlong8:
		return uint64(r.byte())
	case codeUlong:
		return r.u64()
	default:
		r.fail(malformed("a ulong is expected, not format code 0x%02x", c))
	}
	return 0
}

func (r *reader) timestamp() Timestamp {
	if c := r.byte(); c != codeTimestamp {
		r.fail(malformed("a timestamp is expected, not format code 0x%02x", c))
	}
	return Timestamp(r.u64())
}
