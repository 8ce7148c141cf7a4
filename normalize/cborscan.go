package normalize

import (
	"encoding/binary"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/tributary-iot/tributary/device"
)

// The major types of RFC 8949, section 3.1.
const (
	cborUnsigned = iota
	cborNegative
	cborBytes
	cborText
	cborArray
	cborMap
	cborTag
	cborSimple
)

// Bytes and values with a meaning of their own.
const (
	cborBreak     = 0xff
	cborFalse     = 20
	cborTrue      = 21
	indefinite    = 31 // additional information: the length is not told
	cborHalfFloat = 25
	cborFloat     = 26
	cborDouble    = 27
)

// cborReader reads the items of a payload already known to be well-formed.
type cborReader struct {
	p       []byte
	i       int
	scratch []byte // the last string that came in pieces, or integer key
}

func (r *cborReader) at() int { return r.i }

// major is the major type of the item that comes next.
func (r *cborReader) major() int { return int(r.p[r.i] >> 5) }

// head steps over an item's first bytes. info is its additional information:
// 31 stands for an indefinite length, and arg is then 0.
func (r *cborReader) head() (info byte, arg uint64) {
	info = r.p[r.i] & 0x1f
	r.i++
	switch info {
	case 24:
		arg = uint64(r.p[r.i])
		r.i++
	case 25:
		arg = uint64(binary.BigEndian.Uint16(r.p[r.i:]))
		r.i += 2
	case 26:
		arg = uint64(binary.BigEndian.Uint32(r.p[r.i:]))
		r.i += 4
	case 27:
		arg = binary.BigEndian.Uint64(r.p[r.i:])
		r.i += 8
	case indefinite:
	default:
		arg = uint64(info)
	}
	return info, arg
}

// kind steps over tags that do not change what a value is.
func (r *cborReader) kind() kind {
	r.plain()
	switch r.major() {
	case cborArray:
		return arrayKind
	case cborMap:
		return objectKind
	}
	return scalarKind
}

// plain steps over the tags before a value, up to one that number reads.
func (r *cborReader) plain() {
	for r.major() == cborTag {
		before := r.i
		if _, tag := r.head(); isNumberTag(tag) {
			r.i = before
			return
		}
	}
}

func (r *cborReader) begin() int {
	info, count := r.head()
	if info == indefinite {
		return -1
	}
	return int(count) // at most maxCBORElements
}

func (r *cborReader) more(left int, _, _ bool) (bool, error) {
	if left < 0 && r.p[r.i] == cborBreak {
		r.i++
		return false, nil
	}
	return left != 0, nil
}

// key reads text, or an integer as its decimal digits.
func (r *cborReader) key() ([]byte, error) {
	r.plain()
	switch r.major() {
	case cborText:
		text, err := r.text()
		if text == nil {
			text = []byte{}
		}
		return text, err
	case cborUnsigned, cborNegative:
		if v := r.integer(); v.Kind() == device.KindInt {
			r.scratch = strconv.AppendInt(r.scratch[:0], v.Int(), 10)
			return r.scratch, nil
		}
		return nil, nil
	}
	w := walk{src: r}
	return nil, w.skip()
}

func (r *cborReader) scalar() (device.Value, error) {
	r.plain()
	switch r.major() {
	case cborUnsigned, cborNegative:
		return r.integer(), nil
	case cborBytes:
		return device.Bytes(r.bytes()), nil
	case cborText:
		text, err := r.text()
		return device.String(string(text)), err
	case cborTag:
		return r.number()
	}
	return r.simple()
}

// integer reads an integer: a double when it does not fit 64 bits with sign.
func (r *cborReader) integer() device.Value {
	negative := r.major() == cborNegative
	_, n := r.head()
	switch {
	case n > math.MaxInt64 && negative:
		return device.Double(-1 - float64(n))
	case n > math.MaxInt64:
		return device.Double(float64(n))
	case negative:
		return device.Int(-1 - int64(n))
	}
	return device.Int(int64(n))
}

// simple reads true, false and floating-point numbers. What is no number (NaN,
// infinities) and the other simple values give nothing.
func (r *cborReader) simple() (device.Value, error) {
	from := r.i
	info, arg := r.head()
	var f float64
	switch info {
	case cborFalse, cborTrue:
		return device.Bool(info == cborTrue), nil
	case cborHalfFloat:
		if err := cborMode.Unmarshal(r.p[from:r.i], &f); err != nil {
			return device.Value{}, cborInvalid(from, err.Error())
		}
	case cborFloat:
		f = float64(math.Float32frombits(uint32(arg)))
	case cborDouble:
		f = math.Float64frombits(arg)
	default:
		return device.Value{}, nil
	}
	return finite(f), nil
}

// finite is a double, or nothing when f is no number.
func finite(f float64) device.Value {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return device.Value{}
	}
	return device.Double(f)
}

// text reads a text string, which must be UTF-8 (RFC 8949, section 3.1).
func (r *cborReader) text() ([]byte, error) {
	from := r.i
	text := r.bytes()
	if !utf8.Valid(text) {
		return nil, cborInvalid(from, "text that is not UTF-8")
	}
	return text, nil
}

// bytes reads a string of either kind. Pieces are joined in scratch.
func (r *cborReader) bytes() []byte {
	info, n := r.head()
	if info != indefinite {
		from := r.i
		r.i += int(n)
		return r.p[from:r.i]
	}
	r.scratch = r.scratch[:0]
	for r.p[r.i] != cborBreak {
		_, n := r.head()
		r.scratch = append(r.scratch, r.p[r.i:r.i+int(n)]...)
		r.i += int(n)
	}
	r.i++
	return r.scratch
}
