package wire

import "math"

// Decode reads one value of any type and answers what follows it.
func Decode(data []byte) (v any, rest []byte, err error) {
	r := reader{b: data}
	v = r.value(0)
	return v, r.b, r.err
}

// value reads one value of any type.
func (r *reader) value(depth int) any {
	if depth > MaxDepth {
		r.fail(malformed("values nest deeper than %d", MaxDepth))
		return nil
	}
	code := r.byte()
	if code == codeDescribed && r.err == nil {
		d := Described{Descriptor: r.value(depth + 1)}
		d.Value = r.value(depth + 1)
		return d
	}
	return r.bare(code, depth)
}

// bare reads what follows a format code.
func (r *reader) bare(code byte, depth int) any {
	if r.err != nil {
		return nil
	}
	switch code >> 4 {
	case 0x4, 0x5, 0x6:
		return r.narrow(code)
	case 0x7, 0x8, 0x9:
		return r.wide(code)
	case 0xa, 0xb:
		return r.variable(code)
	}
	switch code {
	case codeList8, codeList32:
		return r.list(code, depth)
	case codeMap8, codeMap32:
		return r.mapping(code, depth)
	case codeArray8, codeArray32:
		return r.array(code, depth)
	}
	r.fail(malformed("unknown format code 0x%02x", code))
	return nil
}

// narrow reads the fixed types of no, one or two bytes.
func (r *reader) narrow(code byte) any {
	switch code {
	case codeNull:
		return nil
	case codeTrue:
		return true
	case codeFalse:
		return false
	case codeUint0:
		return uint32(0)
	case codeUlong0:
		return uint64(0)
	case codeList0:
		return List{}
	case codeUbyte:
		return r.byte()
	case codeByte:
		return int8(r.byte())
	case codeUint8:
		return uint32(r.byte())
	case codeUlong8:
		return uint64(r.byte())
	case codeInt8:
		return int32(int8(r.byte()))
	case codeLong8:
		return int64(int8(r.byte()))
	case codeBool:
		b := r.byte()
		if b > 1 {
			r.fail(malformed("a boolean of %d", b))
		}
		return b == 1
	case codeUshort:
		return r.u16()
	case codeShort:
		return int16(r.u16())
	}
	r.fail(malformed("unknown format code 0x%02x", code))
	return nil
}

// wide reads the fixed types of four, eight or sixteen bytes.
func (r *reader) wide(code byte) any {
	switch code {
	case codeUint:
		return r.u32()
	case codeInt:
		return int32(r.u32())
	case codeFloat:
		return math.Float32frombits(r.u32())
	case codeChar:
		return Char(r.u32())
	case codeUlong:
		return r.u64()
	case codeLong:
		return int64(r.u64())
	case codeDouble:
		return math.Float64frombits(r.u64())
	case codeTimestamp:
		return Timestamp(r.u64())
	case codeDecimal32:
		return Decimal(clone(r.take(4)))
	case codeDecimal64:
		return Decimal(clone(r.take(8)))
	case codeDecimal128:
		return Decimal(clone(r.take(16)))
	case codeUUID:
		var u UUID
		copy(u[:], r.take(16))
		return u
	}
	r.fail(malformed("unknown format code 0x%02x", code))
	return nil
}

// variable reads binaries, strings and symbols.
func (r *reader) variable(code byte) any {
	switch code {
	case codeBin8, codeBin32:
		return clone(r.take(r.size(code)))
	case codeStr8, codeStr32:
		return r.text(code)
	case codeSym8, codeSym32:
		return Symbol(r.take(r.size(code)))
	}
	r.fail(malformed("unknown format code 0x%02x", code))
	return nil
}

func (r *reader) list(code byte, depth int) List {
	body, count := r.compound(code)
	if count > len(body.b) { // every element takes a byte at least
		r.fail(errShort)
		return nil
	}
	out := make(List, 0, min(count, 64))
	for range count {
		out = append(out, body.value(depth+1))
		if body.err != nil {
			break
		}
	}
	r.close(&body)
	return out
}

func (r *reader) mapping(code byte, depth int) Map {
	body, count := r.compound(code)
	if count > len(body.b) || count%2 != 0 {
		r.fail(malformed("a map of %d keys and values in %d bytes", count, len(body.b)))
		return nil
	}
	out := make(Map, 0, min(count/2, 64))
	for range count / 2 {
		p := Pair{Key: body.value(depth + 1)}
		p.Value = body.value(depth + 1)
		if body.err != nil {
			break
		}
		out = append(out, p)
	}
	r.close(&body)
	return out
}

// array reads elements that share one constructor (part 1, section 6.26).
func (r *reader) array(code byte, depth int) Array {
	if depth >= MaxDepth {
		r.fail(malformed("values nest deeper than %d", MaxDepth))
		return nil
	}
	body, count := r.compound(code)
	elem := body.byte()
	var descriptor any
	described := elem == codeDescribed && body.err == nil
	if described {
		descriptor = body.value(depth + 1)
		elem = body.byte()
	}
	if limit := max(len(body.b), 0); count > limit && (elem>>4 != 4 || count > MaxZeroWidth) {
		r.fail(malformed("an array of %d elements in %d bytes", count, limit))
		return nil
	}
	out := make(Array, 0, min(count, 64))
	for range count {
		v := body.bare(elem, depth+1)
		if body.err != nil {
			break
		}
		if described {
			v = Described{descriptor, v}
		}
		out = append(out, v)
	}
	r.close(&body)
	return out
}

// close ends a compound: its error is ours, and no byte of it may be left over.
func (r *reader) close(body *reader) {
	if body.err == nil && len(body.b) > 0 {
		body.fail(malformed("%d bytes too many in a compound value", len(body.b)))
	}
	if body.err != nil {
		r.fail(body.err)
	}
}

func clone(b []byte) []byte { return append(make([]byte, 0, len(b)), b...) }
