package packet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

const (
	maxVarint = 268_435_455 // four bytes of seven bits (1.5.5)
	maxString = 65_535      // a two-byte length (1.5.4)
)

// decoder walks a packet body. The first failure sticks, and everything read
// after it is zero, so a decode function checks err once at its end.
type decoder struct {
	b       []byte // what is left; shares memory with the reader's buffer
	version Version
	err     error
}

func (d *decoder) fail(err *Error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *decoder) u8() byte {
	if len(d.b) < 1 {
		d.fail(malformed("packet ends before a byte field"))
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) u16() uint16 {
	if len(d.b) < 2 {
		d.fail(malformed("packet ends before a two-byte field"))
		return 0
	}
	v := binary.BigEndian.Uint16(d.b)
	d.b = d.b[2:]
	return v
}

func (d *decoder) u32() uint32 {
	if len(d.b) < 4 {
		d.fail(malformed("packet ends before a four-byte field"))
		return 0
	}
	v := binary.BigEndian.Uint32(d.b)
	d.b = d.b[4:]
	return v
}

// packetID reads an identifier, which is never zero (2.2.1).
func (d *decoder) packetID() uint16 {
	id := d.u16()
	if id == 0 && d.err == nil {
		d.fail(violation(ProtocolError, "packet identifier is 0, it must be 1 to 65535"))
	}
	return id
}

func (d *decoder) varint() int {
	v, n, err := varint(d.b, true)
	switch {
	case err != nil:
		d.fail(err)
		return 0
	case n == 0:
		d.fail(malformed("packet ends inside a variable byte integer"))
		return 0
	}
	d.b = d.b[n:]
	return v
}

// bytes reads binary data (1.5.6). It shares memory with the buffer.
func (d *decoder) bytes() []byte {
	n := int(d.u16())
	if n > len(d.b) {
		d.fail(malformed("a field of %d bytes runs past the end of the packet", n))
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

// textBytes reads an UTF-8 string (1.5.4). It shares memory with the buffer.
func (d *decoder) textBytes() []byte {
	v := d.bytes()
	if err := checkText(v); err != nil {
		d.fail(err)
		return nil
	}
	return v
}

func (d *decoder) text() string { return string(d.textBytes()) }

// end requires that nothing is left.
func (d *decoder) end() {
	if d.err == nil && len(d.b) > 0 {
		d.fail(malformed("%d bytes follow the end of the packet", len(d.b)))
	}
}

// checkText refuses what 1.5.4 forbids: ill-formed UTF-8, which includes
// encoded surrogates, and the null character.
func checkText(b []byte) *Error {
	if !utf8.Valid(b) {
		return malformed("a string is not valid UTF-8")
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return malformed("a string contains the null character U+0000")
	}
	return nil
}

// varint reads a variable byte integer (1.5.5). n is 0 when more bytes are
// needed. minimal demands the shortest form, as MQTT 5 does.
func varint(b []byte, minimal bool) (v, n int, err *Error) {
	for i := range 4 {
		if i == len(b) {
			return 0, 0, nil
		}
		v |= int(b[i]&0x7F) << (7 * i)
		if b[i] < 0x80 {
			if minimal && i > 0 && b[i] == 0 {
				return 0, 0, malformed("a variable byte integer is longer than needed")
			}
			return v, i + 1, nil
		}
	}
	return 0, 0, malformed("a variable byte integer is longer than four bytes")
}

func varintSize(v int) int {
	switch {
	case v < 1<<7:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<21:
		return 3
	}
	return 4
}

func appendVarint(dst []byte, v int) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// encoder builds one packet at the end of dst: five bytes are kept for the
// fixed header, and what the length does not need is closed up at the end.
type encoder struct {
	dst   []byte
	start int
	err   error
}

func encode(dst []byte) encoder {
	return encoder{dst: append(dst, 0, 0, 0, 0, 0), start: len(dst)}
}

func (e *encoder) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf(format, args...)
	}
}

func (e *encoder) u8(v byte)    { e.dst = append(e.dst, v) }
func (e *encoder) u16(v uint16) { e.dst = binary.BigEndian.AppendUint16(e.dst, v) }
func (e *encoder) u32(v uint32) { e.dst = binary.BigEndian.AppendUint32(e.dst, v) }

// putBytes writes a length and the bytes; a string and a slice alike.
func putBytes[S ~string | ~[]byte](e *encoder, v S) {
	if len(v) > maxString {
		e.fail("a field of %d bytes does not fit, the limit is %d", len(v), maxString)
		return
	}
	e.u16(uint16(len(v)))
	e.dst = append(e.dst, v...)
}

// finish writes the fixed header and closes the gap before the body.
func (e *encoder) finish(t Type, flags byte) ([]byte, error) {
	body := e.dst[e.start+5:]
	if len(body) > maxVarint {
		e.fail("a %s of %d bytes does not fit, the limit is %d", t, len(body), maxVarint)
	}
	if e.err != nil {
		return e.dst[:e.start], e.err
	}
	head := append(e.dst[:e.start], byte(t)<<4|flags)
	head = appendVarint(head, len(body))
	n := copy(e.dst[len(head):], body)
	return e.dst[:len(head)+n], nil
}
