package wire

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// ErrNoJSON is the root of the errors of values that JSON has no form for.
var ErrNoJSON = errors.New("no form in JSON")

// JSON gives a Typed body as JSON, of at most limit bytes: maps as objects,
// lists and arrays as arrays, timestamps as text of RFC 3339, binaries in
// base64, symbols, UUIDs and characters as text, decimals in hexadecimal;
// descriptors are left out. Several amqp-sequence sections are one array. NaN,
// infinities and maps with keys that are no text have no form.
func (m *Message) JSON(limit int) ([]byte, error) {
	w := jsonWriter{reader: reader{b: m.typed}, limit: limit}
	if m.sequence {
		w.sequences()
	} else {
		w.descriptor()
		w.any(0)
	}
	return w.out, w.err
}

// jsonWriter turns encoded values into JSON without making values of them, so
// that what they cost is bounded by limit, whatever they say they hold.
type jsonWriter struct {
	reader
	out   []byte
	limit int
}

func (w *jsonWriter) write(s string) {
	if len(w.out)+len(s) > w.limit {
		w.fail(malformed("the body takes more than %d bytes as JSON", w.limit))
		return
	}
	w.out = append(w.out, s...)
}

// sequences writes the elements of all lists as one array.
func (w *jsonWriter) sequences() {
	w.write("[")
	for n := 0; len(w.b) > 0 && w.err == nil; {
		w.descriptor()
		code := w.byte()
		if code == codeList0 || w.err != nil {
			continue
		}
		if code != codeList8 && code != codeList32 {
			w.fail(malformed("an amqp-sequence of format code 0x%02x", code))
			return
		}
		body, count := w.compound(code)
		w.inside(&body, func() { w.elements(count, 1, n > 0) })
		n += count
	}
	w.write("]")
}

// inside has f read from the body of a compound, to its end.
func (w *jsonWriter) inside(body *reader, f func()) {
	outer := w.reader
	w.reader = *body
	f()
	inner := w.reader
	w.reader = outer
	w.close(&inner)
}

func (w *jsonWriter) elements(count, depth int, more bool) {
	if count > len(w.b) { // every element takes a byte at least
		w.fail(errShort)
	}
	for i := 0; i < count && w.err == nil; i++ {
		if i > 0 || more {
			w.write(",")
		}
		w.any(depth)
	}
}

func (w *jsonWriter) any(depth int) {
	if depth > MaxDepth {
		w.fail(malformed("values nest deeper than %d", MaxDepth))
		return
	}
	code := w.byte()
	if code == codeDescribed && w.err == nil {
		w.skip() // the descriptor
		w.any(depth + 1)
		return
	}
	w.bareJSON(code, depth)
}

// bareJSON writes what follows a format code.
func (w *jsonWriter) bareJSON(code byte, depth int) {
	if w.err != nil {
		return
	}
	switch code {
	case codeList8, codeList32:
		body, count := w.compound(code)
		w.write("[")
		w.inside(&body, func() { w.elements(count, depth+1, false) })
		w.write("]")
	case codeMap8, codeMap32:
		body, count := w.compound(code)
		w.write("{")
		w.inside(&body, func() { w.pairs(count, depth+1) })
		w.write("}")
	case codeArray8, codeArray32:
		body, count := w.compound(code)
		w.write("[")
		w.inside(&body, func() { w.array(count, depth+1) })
		w.write("]")
	case codeList0:
		w.write("[]")
	default:
		w.scalar(w.bare(code, depth))
	}
}

func (w *jsonWriter) pairs(count, depth int) {
	if count > len(w.b) || count%2 != 0 {
		w.fail(malformed("a map of %d keys and values in %d bytes", count, len(w.b)))
	}
	for i := 0; i < count && w.err == nil; i += 2 {
		if i > 0 {
			w.write(",")
		}
		switch key := w.value(MaxDepth).(type) {
		case string:
			w.text(key)
		case Symbol:
			w.text(string(key))
		default:
			w.refuse("a map with a key that is no text")
		}
		w.write(":")
		w.any(depth)
	}
}

func (w *jsonWriter) array(count, depth int) {
	elem := w.byte()
	if elem == codeDescribed && w.err == nil {
		w.skip()
		elem = w.byte()
	}
	if count > len(w.b) && (elem>>4 != 4 || count > MaxZeroWidth) || depth > MaxDepth {
		w.fail(malformed("an array of %d elements in %d bytes", count, len(w.b)))
	}
	for i := 0; i < count && w.err == nil; i++ {
		if i > 0 {
			w.write(",")
		}
		w.bareJSON(elem, depth)
	}
}

func (w *jsonWriter) scalar(v any) {
	if w.err != nil {
		return
	}
	switch v := v.(type) {
	case nil:
		w.write("null")
	case bool:
		w.write(strconv.FormatBool(v))
	case float32:
		w.float(float64(v), 32)
	case float64:
		w.float(v, 64)
	case string:
		w.text(v)
	case Symbol:
		w.text(string(v))
	case UUID:
		w.text(v.String())
	case Char:
		w.text(string(rune(v)))
	case []byte:
		w.text(base64.StdEncoding.EncodeToString(v))
	case Decimal:
		w.text(hex.EncodeToString(v))
	case Timestamp:
		w.time(v)
	default:
		w.integer(v)
	}
}

func (w *jsonWriter) integer(v any) {
	switch v := v.(type) {
	case uint8:
		w.write(strconv.FormatUint(uint64(v), 10))
	case uint16:
		w.write(strconv.FormatUint(uint64(v), 10))
	case uint32:
		w.write(strconv.FormatUint(uint64(v), 10))
	case uint64:
		w.write(strconv.FormatUint(v, 10))
	case int8:
		w.write(strconv.FormatInt(int64(v), 10))
	case int16:
		w.write(strconv.FormatInt(int64(v), 10))
	case int32:
		w.write(strconv.FormatInt(int64(v), 10))
	case int64:
		w.write(strconv.FormatInt(v, 10))
	}
}

func (w *jsonWriter) float(v float64, bits int) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		w.refuse("a number that is none, or infinite")
		return
	}
	w.write(strconv.FormatFloat(v, 'g', -1, bits))
}

func (w *jsonWriter) time(v Timestamp) {
	if t := v.Time(); !t.IsZero() {
		w.text(t.Format(time.RFC3339Nano))
		return
	}
	w.write(strconv.FormatInt(int64(v), 10))
}

func (w *jsonWriter) refuse(what string) {
	w.fail(errors.Join(ErrNoJSON, malformed("%s has no form in JSON", what)))
}

// text writes a string; symbols are from strangers, so they may hold anything.
func (w *jsonWriter) text(s string) {
	if !utf8.ValidString(s) {
		w.fail(malformed("a text that is not UTF-8"))
		return
	}
	const escapes = "0123456789abcdef"
	b := make([]byte, 0, len(s)+2)
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', escapes[c>>4], escapes[c&15])
		default:
			b = append(b, c)
		}
	}
	w.write(string(append(b, '"')))
}
