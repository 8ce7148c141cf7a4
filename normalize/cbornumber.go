package normalize

import (
	"math/big"
	"strconv"

	"github.com/tributary-iot/tributary/device"
)

// Tags whose content is a number (RFC 8949, sections 3.4.3 and 3.4.4).
const (
	tagBignum         = 2
	tagNegativeBignum = 3
	tagDecimal        = 4
	tagBigfloat       = 5
)

const (
	maxBignumBytes = 128  // 2**1024 is past the largest double
	maxExponent    = 5000 // with such a mantissa, past every double
)

func isNumberTag(tag uint64) bool { return tag >= tagBignum && tag <= tagBigfloat }

// number reads a tagged number: an integer when it is a bignum that fits 64
// bits, else the nearest double. What is too large for a double gives nothing.
func (r *cborReader) number() (device.Value, error) {
	from := r.i
	_, tag := r.head()
	if tag == tagDecimal || tag == tagBigfloat {
		return r.fraction(tag)
	}
	r.i = from
	n, err := r.bigInteger()
	switch {
	case err != nil || n == nil:
		return device.Value{}, err
	case n.IsInt64():
		return device.Int(n.Int64()), nil
	}
	f, _ := new(big.Float).SetInt(n).Float64()
	return finite(f), nil
}

// fraction reads the content of tag 4 or 5: a mantissa times 10, or 2, to the
// power of an exponent.
func (r *cborReader) fraction(tag uint64) (device.Value, error) {
	from := r.i
	if r.major() != cborArray || r.begin() != 2 {
		return device.Value{}, cborInvalid(from, "a decimal fraction or bigfloat must be an array of exponent and mantissa")
	}
	exponent, err := r.bigInteger()
	if err != nil {
		return device.Value{}, err
	}
	mantissa, err := r.bigInteger()
	if err != nil || exponent == nil || mantissa == nil {
		return device.Value{}, err
	}
	e := maxExponent
	if exponent.IsInt64() {
		e = int(max(-maxExponent, min(exponent.Int64(), maxExponent)))
	} else if exponent.Sign() < 0 {
		e = -maxExponent
	}
	var f float64
	if tag == tagDecimal {
		// Rounds once; the only error is a result out of range, an infinity.
		f, _ = strconv.ParseFloat(mantissa.String()+"e"+strconv.Itoa(e), 64)
	} else {
		f, _ = new(big.Float).SetMantExp(new(big.Float).SetInt(mantissa), e).Float64()
	}
	return finite(f), nil
}

// bigInteger reads an integer of any size; nil is one that is too large for
// any use.
func (r *cborReader) bigInteger() (*big.Int, error) {
	from, n := r.i, new(big.Int)
	major := r.major()
	_, arg := r.head()
	switch {
	case major == cborUnsigned:
		return n.SetUint64(arg), nil
	case major == cborNegative:
		return n.Not(n.SetUint64(arg)), nil // -1 - arg
	case major != cborTag || arg != tagBignum && arg != tagNegativeBignum || r.major() != cborBytes:
		return nil, cborInvalid(from, "an integer or a bignum, a tagged byte string, should be here")
	}
	b := r.bytes()
	for len(b) > 0 && b[0] == 0 {
		b = b[1:]
	}
	if len(b) > maxBignumBytes {
		return nil, nil
	}
	if n.SetBytes(b); arg == tagNegativeBignum {
		n.Not(n)
	}
	return n, nil
}
