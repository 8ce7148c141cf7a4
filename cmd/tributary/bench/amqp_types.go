package bench

import (
	"encoding/binary"
	"errors"
	"slices"
)

// The values that fields are made of (AMQP 1.0, part 1.6).
var (
	amqpNull  = []byte{0x40}
	amqpTrue  = []byte{0x41}
	amqpFalse = []byte{0x42}
)

func amqpUint(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{0x70}, n) }

// amqpString, amqpSymbol and amqpBinary take at most 255 bytes.
func amqpString(s string) []byte { return append([]byte{0xa1, byte(len(s))}, s...) }
func amqpSymbol(s string) []byte { return append([]byte{0xa3, byte(len(s))}, s...) }
func amqpBinary(s string) []byte { return append([]byte{0xa0, byte(len(s))}, s...) }

// amqpDescribed is a list of fields with its descriptor.
func amqpDescribed(descriptor byte, fields ...[]byte) []byte {
	all := slices.Concat(fields...)
	b := []byte{0, 0x53, descriptor, 0xd0}
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(all)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(fields)))
	return append(b, all...)
}

// amqpFields are what is left of a list. Beyond its end, and beyond what cannot be
// read, every field is absent: a peer that is wrong ends as one that says nothing.
type amqpFields struct{ b []byte }

var errNoPerformative = errors.New("no performative")

// amqpList reads a described list.
func amqpList(b []byte) (descriptor byte, f *amqpFields, err error) {
	at := 3 // 0x00, the descriptor as smallulong or ulong
	switch {
	case len(b) > 3 && b[0] == 0 && b[1] == 0x53:
		descriptor = b[2]
	case len(b) > 10 && b[0] == 0 && b[1] == 0x80:
		descriptor, at = b[9], 10
	default:
		return 0, nil, errNoPerformative
	}
	switch b[at] {
	case 0x45:
		return descriptor, &amqpFields{}, nil
	case 0xc0:
		at += 3
	case 0xd0:
		at += 9
	default:
		return 0, nil, errNoPerformative
	}
	return descriptor, &amqpFields{b[min(at, len(b)):]}, nil
}

// next is a field as it was written.
func (f *amqpFields) next() []byte {
	n := amqpSize(f.b)
	if n > len(f.b) {
		n = len(f.b)
	}
	field := f.b[:n]
	f.b = f.b[n:]
	return field
}

func (f *amqpFields) skip(n int) {
	for range n {
		f.next()
	}
}

// uint is a field of an unsigned type, 0 when it is absent or another.
func (f *amqpFields) uint() uint32 {
	switch v := f.next(); {
	case len(v) == 2 && v[0] == 0x52:
		return uint32(v[1])
	case len(v) == 5 && v[0] == 0x70:
		return binary.BigEndian.Uint32(v[1:])
	}
	return 0
}

// amqpSize is how many bytes the first value of b takes.
func amqpSize(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	switch b[0] >> 4 {
	case 0: // described: a descriptor and a value
		d := amqpSize(b[1:])
		return 1 + d + amqpSize(b[min(1+d, len(b)):])
	case 5, 6, 7, 8, 9:
		return 1 + 1<<(b[0]>>4-5)
	case 0xa, 0xc, 0xe:
		if len(b) > 1 {
			return 2 + int(b[1])
		}
	case 0xb, 0xd, 0xf:
		if len(b) > 4 {
			return 5 + int(binary.BigEndian.Uint32(b[1:]))
		}
	}
	return 1
}
