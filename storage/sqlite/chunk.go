package sqlite

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/tributary-iot/tributary/device"
)

// A chunk is a run of points of one series and one kind with rising times.
// Layout: kind, value codec, number of points, time unit (how many factors of
// 1,000 were divided out of the microseconds), first time, first difference,
// then differences of differences as varints; then the values as their codec
// says.
const (
	valuesRaw     = 0 // doubles: 8 bytes each
	valuesDecimal = 1 // doubles: exponent e, then v*10^e as differences
	valuesXOR     = 2 // doubles: bytes of v xor the value before
	valuesDelta   = 3 // integers: differences
	valuesBits    = 4 // booleans: one bit each
	valuesText    = 5 // strings, bytes: lengths, then contents
	valuesPacked  = 6 // strings, bytes: the same, compressed as a block

	chunkPoints = 4096      // a chunk has at most so many
	chunkBytes  = 256 << 10 // ... and is closed when its texts reach this
	packFrom    = 96        // smaller texts are not worth compressing
)

// point is one value at its time. bits holds a double, an integer or a
// boolean as device.Value does; for texts it is an index into the texts
// beside it.
type point struct {
	time int64
	bits uint64
	kind device.Kind
}

func isText(k device.Kind) bool { return k == device.KindString || k == device.KindBytes }

// chunk encodes points of one kind and rising times.
func (z *squeezer) chunk(ps []point, texts []string) []byte {
	kind, codec := ps[0].kind, byte(0)
	dst := append(make([]byte, 0, 24+6*len(ps)), byte(kind), codec)
	dst = binary.AppendUvarint(dst, uint64(len(ps)))
	dst = appendTimes(dst, ps)
	switch kind {
	case device.KindDouble:
		codec, dst = appendDoubles(dst, ps)
	case device.KindInt:
		codec, dst = valuesDelta, appendInts(dst, ps)
	case device.KindBool:
		codec, dst = valuesBits, appendBools(dst, ps)
	default:
		codec, dst = z.appendTexts(dst, ps, texts)
	}
	dst[1] = codec
	return dst
}

func (z *squeezer) appendTexts(dst []byte, ps []point, texts []string) (codec byte, out []byte) {
	z.raw = z.raw[:0]
	for _, p := range ps {
		z.raw = binary.AppendUvarint(z.raw, uint64(len(texts[p.bits])))
	}
	for _, p := range ps {
		z.raw = append(z.raw, texts[p.bits]...)
	}
	if len(z.raw) < packFrom {
		return valuesText, append(dst, z.raw...)
	}
	return valuesPacked, append(dst, z.squeeze(z.raw)...)
}

func appendTimes(dst []byte, ps []point) []byte {
	unit, scale := byte(0), int64(1)
	for unit < 2 && divisible(ps, scale*1000) {
		unit, scale = unit+1, scale*1000
	}
	dst = append(dst, unit)
	dst = binary.AppendVarint(dst, ps[0].time/scale)
	prev, delta := ps[0].time/scale, int64(0)
	for _, p := range ps[1:] {
		t := p.time / scale
		dst = binary.AppendVarint(dst, t-prev-delta)
		prev, delta = t, t-prev
	}
	return dst
}

func divisible(ps []point, by int64) bool {
	for _, p := range ps {
		if p.time%by != 0 {
			return false
		}
	}
	return true
}

var powers = [...]float64{1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}

// appendDoubles picks the codec: decimal when every value is a short decimal
// exactly, else whichever of XOR and raw is smaller.
func appendDoubles(dst []byte, ps []point) (codec byte, out []byte) {
	if e, ok := decimals(ps); ok {
		dst = append(dst, byte(e))
		var prev int64
		for _, p := range ps {
			i, _ := asDecimal(p.bits, e)
			dst = binary.AppendVarint(dst, i-prev)
			prev = i
		}
		return valuesDecimal, dst
	}
	start := len(dst)
	var prev uint64
	for _, p := range ps {
		dst = appendXOR(dst, p.bits^prev)
		prev = p.bits
	}
	if len(dst)-start < 8*len(ps) {
		return valuesXOR, dst
	}
	dst = dst[:start]
	for _, p := range ps {
		dst = binary.LittleEndian.AppendUint64(dst, p.bits)
	}
	return valuesRaw, dst
}

// decimals finds the smallest exponent that makes every value an integer.
func decimals(ps []point) (e int, ok bool) {
	for _, p := range ps {
		for {
			if _, ok := asDecimal(p.bits, e); ok {
				break
			}
			if e++; e == len(powers) {
				return 0, false
			}
		}
	}
	for _, p := range ps { // a larger exponent may not suit an earlier value
		if _, ok := asDecimal(p.bits, e); !ok {
			return 0, false
		}
	}
	return e, true
}

func asDecimal(b uint64, e int) (int64, bool) {
	v := math.Float64frombits(b)
	scaled := v * powers[e]
	if !(math.Abs(scaled) < 1<<53) { // also refuses NaN
		return 0, false
	}
	i := int64(math.Round(scaled))
	return i, math.Float64bits(float64(i)/powers[e]) == b // also refuses -0
}

// appendXOR writes the bytes of x that are not zero at its ends: one byte with
// the number of low zero bytes and of bytes that follow, then those.
func appendXOR(dst []byte, x uint64) []byte {
	if x == 0 {
		return append(dst, 0)
	}
	low := bits.TrailingZeros64(x) / 8
	n := 8 - low - bits.LeadingZeros64(x)/8
	dst = append(dst, byte(low<<4|n))
	x >>= 8 * low
	for range n {
		dst = append(dst, byte(x))
		x >>= 8
	}
	return dst
}

func appendInts(dst []byte, ps []point) []byte {
	var prev uint64
	for _, p := range ps {
		dst = binary.AppendVarint(dst, int64(p.bits-prev)) // may wrap, and wraps back
		prev = p.bits
	}
	return dst
}

func appendBools(dst []byte, ps []point) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, (len(ps)+7)/8)...)
	for i, p := range ps {
		dst[at+i/8] |= byte(p.bits&1) << (i % 8)
	}
	return dst
}

// decodeChunk reads a chunk; damaged bytes give an error.
func decodeChunk(b []byte) ([]point, []string, error) {
	in := cursorReader{b: b}
	kind, codec, n := device.Kind(in.byte()), in.byte(), in.uvarint()
	if n == 0 || n > chunkPoints || n > uint64(len(b)) {
		return nil, nil, damaged(fmt.Sprintf("chunk of %d points in %d bytes", n, len(b)))
	}
	if kind == device.KindNone || kind > device.KindBytes {
		return nil, nil, damaged(fmt.Sprintf("chunk of unknown kind %d", kind))
	}
	ps := make([]point, n)
	readTimes(&in, ps, kind)
	var texts []string
	var err error
	switch {
	case codec == valuesRaw || codec == valuesDecimal || codec == valuesXOR:
		if kind != device.KindDouble {
			return nil, nil, damaged("chunk whose codec is not of its kind")
		}
		readDoubles(&in, ps, codec)
	case codec == valuesDelta && kind == device.KindInt:
		var prev uint64
		for i := range ps {
			prev += uint64(in.varint())
			ps[i].bits = prev
		}
	case codec == valuesBits && kind == device.KindBool:
		if set := in.take((len(ps) + 7) / 8); set != nil {
			for i := range ps {
				ps[i].bits = uint64(set[i/8]>>(i%8)) & 1
			}
		}
	case (codec == valuesText || codec == valuesPacked) && isText(kind):
		if codec == valuesPacked && !in.bad {
			in.b, err = expand(in.b)
		}
		texts = readTexts(&in, ps)
	default:
		return nil, nil, damaged(fmt.Sprintf("chunk of kind %d and codec %d", kind, codec))
	}
	if err == nil && (in.bad || len(in.b) != 0) {
		err = damaged("chunk lengths do not add up")
	}
	if err != nil {
		return nil, nil, err
	}
	return ps, texts, nil
}

func readTimes(in *cursorReader, ps []point, kind device.Kind) {
	scale := int64(1)
	switch in.byte() {
	case 0:
	case 1:
		scale = 1000
	case 2:
		scale = 1000_000
	default:
		in.bad = true
	}
	t, delta := in.varint(), int64(0)
	ps[0] = point{time: t * scale, kind: kind}
	for i := range ps[1:] {
		delta += in.varint()
		t += delta
		ps[i+1] = point{time: t * scale, kind: kind}
	}
}

func readDoubles(in *cursorReader, ps []point, codec byte) {
	switch codec {
	case valuesRaw:
		if raw := in.take(8 * len(ps)); raw != nil {
			for i := range ps {
				ps[i].bits = binary.LittleEndian.Uint64(raw[8*i:])
			}
		}
	case valuesXOR:
		var prev uint64
		for i := range ps {
			prev ^= readXOR(in)
			ps[i].bits = prev
		}
	case valuesDecimal:
		e := in.byte()
		if int(e) >= len(powers) {
			in.bad = true
			return
		}
		var prev int64
		for i := range ps {
			prev += in.varint()
			ps[i].bits = math.Float64bits(float64(prev) / powers[e])
		}
	}
}

func readXOR(in *cursorReader) (x uint64) {
	head := in.byte()
	low, n := int(head>>4), int(head&15)
	if low+n > 8 {
		in.bad = true
		return 0
	}
	for i, b := range in.take(n) {
		x |= uint64(b) << (8 * (low + i))
	}
	return x
}

func readTexts(in *cursorReader, ps []point) []string {
	sizes := make([]uint64, len(ps))
	for i := range ps {
		sizes[i] = in.uvarint()
		ps[i].bits = uint64(i)
	}
	texts := make([]string, len(ps))
	for i, n := range sizes {
		if n > uint64(len(in.b)) {
			in.bad = true
			return nil
		}
		texts[i] = string(in.take(int(n)))
	}
	return texts
}
