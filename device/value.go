package device

import (
	"math"
	"strconv"
)

// Kind says which type a Value holds. The numbers are stored: never renumber.
type Kind uint8

// The kinds of values.
const (
	KindNone   Kind = 0 // the zero Value; never stored
	KindDouble Kind = 1
	KindInt    Kind = 2
	KindBool   Kind = 3
	KindString Kind = 4
	KindBytes  Kind = 5
)

var kindNames = [...]string{"none", "double", "int", "bool", "string", "bytes"}

// String names the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// Value is a measured value: a 64-bit float, a 64-bit integer, a boolean, text
// or bytes. It is immutable and comparable with ==, except that NaN equals NaN.
type Value struct {
	kind Kind
	bits uint64 // double, int and bool
	text string // string and bytes
}

// Double makes a floating-point value.
func Double(f float64) Value { return Value{kind: KindDouble, bits: math.Float64bits(f)} }

// Int makes an integer value.
func Int(i int64) Value { return Value{kind: KindInt, bits: uint64(i)} }

// Bool makes a boolean value.
func Bool(b bool) Value {
	if b {
		return Value{kind: KindBool, bits: 1}
	}
	return Value{kind: KindBool}
}

// String makes a text value.
func String(s string) Value { return Value{kind: KindString, text: s} }

// Bytes makes a binary value; b is copied.
func Bytes(b []byte) Value { return Value{kind: KindBytes, text: string(b)} }

// Kind says which of the accessors below holds the value.
func (v Value) Kind() Kind { return v.kind }

// Double gives the float of a KindDouble value.
func (v Value) Double() float64 { return math.Float64frombits(v.bits) }

// Int gives the integer of a KindInt value.
func (v Value) Int() int64 { return int64(v.bits) }

// Bool gives the boolean of a KindBool value.
func (v Value) Bool() bool { return v.bits != 0 }

// Text gives the string of a KindString or KindBytes value.
func (v Value) Text() string { return v.text }

// Number gives a double or an integer as float64; ok is false for other kinds.
func (v Value) Number() (f float64, ok bool) {
	switch v.kind {
	case KindDouble:
		return v.Double(), true
	case KindInt:
		return float64(v.Int()), true
	}
	return 0, false
}

// String shows the value to a person; text is not quoted, bytes are hexadecimal.
func (v Value) String() string {
	switch v.kind {
	case KindDouble:
		return strconv.FormatFloat(v.Double(), 'g', -1, 64)
	case KindInt:
		return strconv.FormatInt(v.Int(), 10)
	case KindBool:
		return strconv.FormatBool(v.Bool())
	case KindString:
		return v.text
	case KindBytes:
		const hex = "0123456789abcdef"
		out := make([]byte, 0, 2*len(v.text))
		for i := range len(v.text) {
			out = append(out, hex[v.text[i]>>4], hex[v.text[i]&15])
		}
		return string(out)
	}
	return ""
}
