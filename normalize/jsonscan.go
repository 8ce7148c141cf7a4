package normalize

import (
	"errors"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tributary-iot/tributary/device"
)

// scanner reads the tokens of RFC 8259 from bytes already known to be UTF-8.
// It is stricter than the RFC in one point: an escaped surrogate without its
// other half is refused, for no UTF-8 text can hold it.
type scanner struct {
	p       []byte
	i       int
	scratch []byte // the last string that held escapes
}

func syntaxError(at int, what string) error {
	return device.Errorf(device.Undecodable, "payload is not valid JSON at byte %d: %s", at, what)
}

func invalidUTF8At(p []byte) int {
	at := 0
	for at < len(p) {
		r, size := utf8.DecodeRune(p[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return at
}

// peek skips white space and answers the byte after it, 0 at the end.
func (s *scanner) peek() byte {
	for ; s.i < len(s.p); s.i++ {
		switch c := s.p[s.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// key reads an object key and the colon after it. The bytes are good until the
// next string is read.
func (s *scanner) key() ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.unexpected("a key in double quotes")
	}
	key, err := s.text()
	if err != nil {
		return nil, err
	}
	if s.peek() != ':' {
		return nil, s.unexpected("a colon after the key")
	}
	s.i++
	return key, nil
}

func (s *scanner) unexpected(wanted string) error {
	if s.i >= len(s.p) {
		return syntaxError(s.i, "the text ends where "+wanted+" should be")
	}
	return syntaxError(s.i, wanted+" should be here")
}

// scalar reads a string, a number, true or false; null is the zero Value.
func (s *scanner) scalar() (device.Value, error) {
	switch c := s.peek(); {
	case c == '"':
		text, err := s.text()
		if err != nil {
			return device.Value{}, err
		}
		return device.String(string(text)), nil
	case c == '-' || isDigit(c):
		return s.number()
	case c == 't' && s.literal("true"):
		return device.Bool(true), nil
	case c == 'f' && s.literal("false"):
		return device.Bool(false), nil
	case c == 'n' && s.literal("null"):
		return device.Value{}, nil
	}
	return device.Value{}, s.unexpected("a value")
}

func (s *scanner) literal(word string) bool {
	if len(s.p)-s.i < len(word) || string(s.p[s.i:s.i+len(word)]) != word {
		return false
	}
	s.i += len(word)
	return true
}

// text reads a string; the scanner stands on its opening quote.
func (s *scanner) text() ([]byte, error) {
	s.i++
	for start := s.i; s.i < len(s.p); s.i++ {
		switch c := s.p[s.i]; {
		case c == '"':
			s.i++
			return s.p[start : s.i-1], nil
		case c == '\\':
			s.scratch = append(s.scratch[:0], s.p[start:s.i]...)
			return s.escapedText()
		case c < 0x20:
			return nil, syntaxError(s.i, "a control character inside a string")
		}
	}
	return nil, syntaxError(s.i, "the text ends inside a string")
}

// escapedText goes on with a string from its first backslash.
func (s *scanner) escapedText() ([]byte, error) {
	for s.i < len(s.p) {
		switch c := s.p[s.i]; {
		case c == '"':
			s.i++
			return s.scratch, nil
		case c == '\\':
			if err := s.escape(); err != nil {
				return nil, err
			}
		case c < 0x20:
			return nil, syntaxError(s.i, "a control character inside a string")
		default:
			s.scratch = append(s.scratch, c)
			s.i++
		}
	}
	return nil, syntaxError(s.i, "the text ends inside a string")
}

func (s *scanner) escape() error {
	if s.i+1 >= len(s.p) {
		return syntaxError(len(s.p), "the text ends inside a string")
	}
	c := s.p[s.i+1]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		return s.escapedRune()
	default:
		return syntaxError(s.i, "an escape JSON does not have")
	}
	s.scratch = append(s.scratch, c)
	s.i += 2
	return nil
}

// escapedRune reads \uXXXX, or two of them that make one character.
func (s *scanner) escapedRune() error {
	r, ok := s.hex4(s.i)
	if !ok {
		return syntaxError(s.i, `\u without four hexadecimal digits`)
	}
	size := 6
	if utf16.IsSurrogate(r) {
		low, ok := s.hex4(s.i + 6)
		if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
			return syntaxError(s.i, "half of a surrogate pair")
		}
		size = 12
	}
	s.scratch = utf8.AppendRune(s.scratch, r)
	s.i += size
	return nil
}

func (s *scanner) hex4(at int) (rune, bool) {
	if at+6 > len(s.p) || s.p[at] != '\\' || s.p[at+1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range s.p[at+2 : at+6] {
		switch {
		case isDigit(c):
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// pow10 holds the powers of ten a double holds exactly.
var pow10 = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// number reads a number: an integer when it is written as one and fits 64
// bits, else the nearest double.
func (s *scanner) number() (device.Value, error) {
	start := s.i
	negative := s.p[s.i] == '-'
	if negative {
		s.i++
	}
	whole := s.i
	mantissa := s.digits(0)
	if s.i == whole || s.p[whole] == '0' && s.i > whole+1 {
		return device.Value{}, syntaxError(start, "a number JSON does not allow")
	}
	if s.i == len(s.p) || s.p[s.i] != '.' && s.p[s.i]|0x20 != 'e' {
		return s.integer(start, whole, mantissa, negative)
	}
	point := s.i
	if s.p[s.i] == '.' {
		s.i++
		if mantissa = s.digits(mantissa); s.i == point+1 {
			return device.Value{}, syntaxError(start, "a number that ends with its point")
		}
	}
	if s.i == len(s.p) || s.p[s.i]|0x20 != 'e' {
		if decimals := s.i - point - 1; s.i-whole <= 16 && decimals < len(pow10) {
			// At most 15 digits: both operands are exact, so the quotient is
			// the nearest double, as a full parse would find.
			f := float64(mantissa) / pow10[decimals]
			if negative {
				f = -f
			}
			return device.Double(f), nil
		}
	} else if !s.exponent() {
		return device.Value{}, syntaxError(start, "a number whose exponent has no digits")
	}
	return s.double(start)
}

// digits steps over decimal digits, adding them to n, which may overflow.
func (s *scanner) digits(n uint64) uint64 {
	for ; s.i < len(s.p) && isDigit(s.p[s.i]); s.i++ {
		n = n*10 + uint64(s.p[s.i]-'0')
	}
	return n
}

func (s *scanner) exponent() bool {
	s.i++
	if s.i < len(s.p) && (s.p[s.i] == '+' || s.p[s.i] == '-') {
		s.i++
	}
	from := s.i
	s.digits(0)
	return s.i > from
}

func (s *scanner) integer(start, whole int, mantissa uint64, negative bool) (device.Value, error) {
	if s.i-whole > 19 || mantissa > math.MaxInt64 {
		if n, err := strconv.ParseInt(string(s.p[start:s.i]), 10, 64); err == nil {
			return device.Int(n), nil
		}
		return s.double(start)
	}
	if negative {
		return device.Int(-int64(mantissa)), nil
	}
	return device.Int(int64(mantissa)), nil
}

func (s *scanner) double(start int) (device.Value, error) {
	f, err := strconv.ParseFloat(string(s.p[start:s.i]), 64)
	if errors.Is(err, strconv.ErrRange) && math.IsInf(f, 0) {
		return device.Value{}, device.Errorf(device.Invalid, "number at byte %d is too large for a 64-bit float", start)
	}
	return device.Double(f), nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
