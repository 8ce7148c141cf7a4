package wire

import (
	"fmt"
	"time"
)

// The Go values of AMQP types (part 1, section 6). Decoded values are one of
//
//	nil bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float32 float64
//	string []byte Symbol Char Timestamp UUID Decimal List Map Array Described
//
// Nothing decoded shares memory with the input.
type (
	// Symbol is a short ASCII name.
	Symbol string
	// Char is one Unicode character.
	Char rune
	// Timestamp is milliseconds since the Unix epoch.
	Timestamp int64
	// UUID is an RFC 4122 identifier.
	UUID [16]byte
	// Decimal is an IEEE 754 decimal of 4, 8 or 16 bytes, kept as it came.
	Decimal []byte
	// List is a sequence of values.
	List []any
	// Map is a sequence of key and value pairs, in their order.
	Map []Pair
	// Pair is one entry of a Map.
	Pair struct{ Key, Value any }
	// Array is a sequence of values of one type.
	Array []any
	// Described is a value with a descriptor that says what it means.
	Described struct{ Descriptor, Value any }
)

// Limits of generic values. A performative or property that needs more is not
// one we have a use for.
const (
	MaxDepth     = 16   // nesting of described types, lists, maps and arrays
	MaxZeroWidth = 4096 // elements of an array whose elements take no bytes
)

// Time gives the timestamp as time, and the zero time for one out of the years
// 1 to 9999.
func (t Timestamp) Time() time.Time {
	const first, last = -62135596800000, 253402300799999
	if t < first || t > last {
		return time.Time{}
	}
	return time.UnixMilli(int64(t)).UTC()
}

// TimestampOf is the timestamp of t.
func TimestampOf(t time.Time) Timestamp { return Timestamp(t.UnixMilli()) }

// String gives the usual form: 8-4-4-4-12 hexadecimal digits.
func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// Format codes (part 1, section 6).
const (
	codeDescribed  = 0x00
	codeNull       = 0x40
	codeTrue       = 0x41
	codeFalse      = 0x42
	codeUint0      = 0x43
	codeUlong0     = 0x44
	codeList0      = 0x45
	codeUbyte      = 0x50
	codeByte       = 0x51
	codeUint8      = 0x52
	codeUlong8     = 0x53
	codeInt8       = 0x54
	codeLong8      = 0x55
	codeBool       = 0x56
	codeUshort     = 0x60
	codeShort      = 0x61
	codeUint       = 0x70
	codeInt        = 0x71
	codeFloat      = 0x72
	codeChar       = 0x73
	codeDecimal32  = 0x74
	codeUlong      = 0x80
	codeLong       = 0x81
	codeDouble     = 0x82
	codeTimestamp  = 0x83
	codeDecimal64  = 0x84
	codeDecimal128 = 0x94
	codeUUID       = 0x98
	codeBin8       = 0xa0
	codeStr8       = 0xa1
	codeSym8       = 0xa3
	codeBin32      = 0xb0
	codeStr32      = 0xb1
	codeSym32      = 0xb3
	codeList8      = 0xc0
	codeMap8       = 0xc1
	codeList32     = 0xd0
	codeMap32      = 0xd1
	codeArray8     = 0xe0
	codeArray32    = 0xf0
)
