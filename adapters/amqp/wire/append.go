package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Append writes one value in its shortest encoding. The types are those
// Decode answers; any other is an error.
func Append(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case List, Map, Array, Described:
		return appendCompound(dst, v)
	case string:
		return appendString(dst, v), nil
	case []byte:
		return appendBinary(dst, v), nil
	case Symbol:
		return appendSymbol(dst, v), nil
	}
	return appendFixed(dst, v)
}

func appendFixed(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, codeNull), nil
	case bool:
		return appendBool(dst, v), nil
	case uint8:
		return append(dst, codeUbyte, v), nil
	case int8:
		return append(dst, codeByte, byte(v)), nil
	case uint16:
		return appendUshort(dst, v), nil
	case int16:
		return binary.BigEndian.AppendUint16(append(dst, codeShort), uint16(v)), nil
	case uint32:
		return appendUint(dst, v), nil
	case int32:
		if v == int32(int8(v)) {
			return append(dst, codeInt8, byte(v)), nil
		}
		return binary.BigEndian.AppendUint32(append(dst, codeInt), uint32(v)), nil
	case uint64:
		return appendUlong(dst, v), nil
	case int64:
		if v == int64(int8(v)) {
			return append(dst, codeLong8, byte(v)), nil
		}
		return binary.BigEndian.AppendUint64(append(dst, codeLong), uint64(v)), nil
	case float32:
		return binary.BigEndian.AppendUint32(append(dst, codeFloat), math.Float32bits(v)), nil
	case float64:
		return binary.BigEndian.AppendUint64(append(dst, codeDouble), math.Float64bits(v)), nil
	case Char:
		return binary.BigEndian.AppendUint32(append(dst, codeChar), uint32(v)), nil
	case Timestamp:
		return appendTimestamp(dst, v), nil
	case UUID:
		return append(append(dst, codeUUID), v[:]...), nil
	case Decimal:
		return appendDecimal(dst, v)
	}
	return dst, fmt.Errorf("wire: no AMQP encoding for %T", v)
}

func appendDecimal(dst []byte, v Decimal) ([]byte, error) {
	code, ok := map[int]byte{4: codeDecimal32, 8: codeDecimal64, 16: codeDecimal128}[len(v)]
	if !ok {
		return dst, fmt.Errorf("wire: a decimal of %d bytes", len(v))
	}
	return append(append(dst, code), v...), nil
}

func appendCompound(dst []byte, v any) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case Described:
		if dst, err = Append(append(dst, codeDescribed), v.Descriptor); err != nil {
			return dst, err
		}
		return Append(dst, v.Value)
	case List:
		if len(v) == 0 {
			return append(dst, codeList0), nil
		}
		l := beginCompound(dst, codeList8)
		for _, e := range v {
			if l.b, err = Append(l.b, e); err != nil {
				return dst, err
			}
			l.count++
		}
		return l.end(), nil
	case Map:
		m := beginCompound(dst, codeMap8)
		for _, p := range v {
			if m.b, err = Append(m.b, p.Key); err != nil {
				return dst, err
			}
			if m.b, err = Append(m.b, p.Value); err != nil {
				return dst, err
			}
			m.count += 2
		}
		return m.end(), nil
	}
	return appendArray(dst, v.(Array))
}

// appendArray writes symbols (the only arrays the protocol itself uses) as one
// array; other arrays are for readers only.
func appendArray(dst []byte, v Array) ([]byte, error) {
	a := beginCompound(dst, codeArray8)
	a.b = append(a.b, codeSym32)
	for _, e := range v {
		s, ok := e.(Symbol)
		if !ok {
			return dst, fmt.Errorf("wire: no AMQP encoding for an array of %T", e)
		}
		a.b = append(binary.BigEndian.AppendUint32(a.b, uint32(len(s))), s...)
		a.count++
	}
	return a.end(), nil
}

// compound is a list, map or array being written.
type compound struct {
	b     []byte
	start int // of the format code
	count int
}

// beginCompound writes the head in its short form; end widens it when needed.
func beginCompound(dst []byte, code8 byte) compound {
	return compound{b: append(dst, code8, 0, 0), start: len(dst)}
}

func (c *compound) end() []byte {
	body := len(c.b) - c.start - 3
	if body+1 <= math.MaxUint8 && c.count <= math.MaxUint8 {
		c.b[c.start+1], c.b[c.start+2] = byte(body+1), byte(c.count)
		return c.b
	}
	c.b = append(c.b, 0, 0, 0, 0, 0, 0)
	copy(c.b[c.start+9:], c.b[c.start+3:c.start+3+body])
	c.b[c.start] |= 0x10
	binary.BigEndian.PutUint32(c.b[c.start+1:], uint32(body+4))
	binary.BigEndian.PutUint32(c.b[c.start+5:], uint32(c.count))
	return c.b
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, codeTrue)
	}
	return append(dst, codeFalse)
}

func appendUshort(dst []byte, v uint16) []byte {
	return binary.BigEndian.AppendUint16(append(dst, codeUshort), v)
}

func appendUint(dst []byte, v uint32) []byte {
	switch {
	case v == 0:
		return append(dst, codeUint0)
	case v <= math.MaxUint8:
		return append(dst, codeUint8, byte(v))
	}
	return binary.BigEndian.AppendUint32(append(dst, codeUint), v)
}

func appendUlong(dst []byte, v uint64) []byte {
	switch {
	case v == 0:
		return append(dst, codeUlong0)
	case v <= math.MaxUint8:
		return append(dst, codeUlong8, byte(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, codeUlong), v)
}

func appendTimestamp(dst []byte, v Timestamp) []byte {
	return binary.BigEndian.AppendUint64(append(dst, codeTimestamp), uint64(v))
}

func appendSized(dst []byte, code8 byte, n int) []byte {
	if n <= math.MaxUint8 {
		return append(dst, code8, byte(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, code8|0x10), uint32(n))
}

func appendBinary(dst, v []byte) []byte {
	return append(appendSized(dst, codeBin8, len(v)), v...)
}

func appendString(dst []byte, v string) []byte {
	return append(appendSized(dst, codeStr8, len(v)), v...)
}

func appendSymbol(dst []byte, v Symbol) []byte {
	return append(appendSized(dst, codeSym8, len(v)), v...)
}

func appendDescriptor(dst []byte, code byte) []byte {
	return append(dst, codeDescribed, codeUlong8, code)
}
