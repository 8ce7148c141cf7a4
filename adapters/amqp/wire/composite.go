package wire

// symbolicDescriptors are the long names some peers use in place of the numbers
// (only described types we decode).
var symbolicDescriptors = map[string]uint64{
	"amqp:open:list": descOpen, "amqp:begin:list": descBegin, "amqp:attach:list": descAttach,
	"amqp:flow:list": descFlow, "amqp:transfer:list": descTransfer, "amqp:disposition:list": descDisposition,
	"amqp:detach:list": descDetach, "amqp:end:list": descEnd, "amqp:close:list": descClose,
	"amqp:error:list":    descError,
	"amqp:received:list": descReceived, "amqp:accepted:list": descAccepted, "amqp:rejected:list": descRejected,
	"amqp:released:list": descReleased, "amqp:modified:list": descModified,
	"amqp:source:list": descSource, "amqp:target:list": descTarget, "amqp:coordinator:list": descCoordinator,
	"amqp:sasl-mechanisms:list": descSASLMechanisms, "amqp:sasl-init:list": descSASLInit,
	"amqp:sasl-challenge:list": descSASLChallenge, "amqp:sasl-response:list": descSASLResponse,
	"amqp:sasl-outcome:list": descSASLOutcome,
	"amqp:header:list":       secHeader, "amqp:delivery-annotations:map": secDeliveryAnnotations,
	"amqp:message-annotations:map": secMessageAnnotations, "amqp:properties:list": secProperties,
	"amqp:application-properties:map": secApplicationProperties, "amqp:data:binary": secData,
	"amqp:amqp-sequence:list": secSequence, "amqp:amqp-value:*": secValue, "amqp:footer:map": secFooter,
}

// Opt is a field that may be left out and has no default.
type Opt[T any] struct {
	Value T
	Set   bool
}

// Some is a field that is there.
func Some[T any](v T) Opt[T] { return Opt[T]{v, true} }

// Or gives the value, or def when it was left out.
func (o Opt[T]) Or(def T) T {
	if o.Set {
		return o.Value
	}
	return def
}

// fields reads the list of a composite type (part 1, section 4). Fields left
// out at its end read as null.
type fields struct {
	reader
	left int
}

// fields opens the list of a described type whose descriptor is already read.
func (r *reader) fields() fields {
	switch code := r.byte(); code {
	case codeList0:
		return fields{reader: reader{err: r.err}}
	case codeList8, codeList32:
		body, count := r.compound(code)
		return fields{reader: body, left: count}
	default:
		r.fail(malformed("a list of fields is expected, not format code 0x%02x", code))
		return fields{reader: reader{err: r.err}}
	}
}

// end gives the error of the fields to the outer reader. Fields we do not know
// are stepped over: their bytes were taken with the list.
func (f *fields) end(r *reader) {
	if f.err != nil {
		r.fail(f.err)
	}
}

// next says whether the next field is there.
func (f *fields) next() bool {
	if f.left == 0 || f.err != nil {
		return false
	}
	f.left--
	return !f.null()
}

// field reads one field with read, def when it is null.
func field[T any](f *fields, read func(*reader) T, def T) T {
	if !f.next() {
		return def
	}
	return read(&f.reader)
}

// optional reads one field that has no default.
func optional[T any](f *fields, read func(*reader) T) Opt[T] {
	if !f.next() {
		return Opt[T]{}
	}
	return Some(read(&f.reader))
}

// required reads a mandatory field.
func required[T any](f *fields, name string, read func(*reader) T) T {
	if !f.next() {
		f.fail(malformed("the mandatory field %s is missing", name))
		var zero T
		return zero
	}
	return read(&f.reader)
}

func (f *fields) skip() {
	if f.next() {
		f.reader.skip()
	}
}

// symbols reads a "multiple" field: one symbol, or an array of them.
func symbols(r *reader) []Symbol {
	if len(r.b) > 0 && (r.b[0] == codeSym8 || r.b[0] == codeSym32) {
		return []Symbol{r.symbol()}
	}
	array, ok := r.value(0).(Array)
	if !ok {
		r.fail(malformed("a symbol or an array of symbols is expected"))
		return nil
	}
	out := make([]Symbol, 0, len(array))
	for _, v := range array {
		s, ok := v.(Symbol)
		if !ok {
			r.fail(malformed("an array of symbols is expected"))
			return nil
		}
		out = append(out, s)
	}
	return out
}

// list writes the fields of a composite type, leaving out nulls at its end.
type list struct {
	compound
	keep, keepCount int // up to the last field that is not null
}

func beginList(dst []byte, descriptor byte) list {
	c := beginCompound(appendDescriptor(dst, descriptor), codeList8)
	return list{compound: c, keep: len(c.b)}
}

func (l *list) null() {
	l.b = append(l.b, codeNull)
	l.count++
}

func (l *list) wrote(b []byte) {
	l.b = b
	l.count++
	l.keep, l.keepCount = len(b), l.count
}

// put writes a field, or null when there is nothing to say.
func put[T any](l *list, there bool, write func([]byte, T) []byte, v T) {
	if !there {
		l.null()
		return
	}
	l.wrote(write(l.b, v))
}

func putOpt[T any](l *list, write func([]byte, T) []byte, v Opt[T]) { put(l, v.Set, write, v.Value) }

func (l *list) end() []byte {
	l.b, l.count = l.b[:l.keep], l.keepCount
	if l.count == 0 {
		return append(l.b[:l.start], codeList0)
	}
	return l.compound.end()
}

func appendUbyte(dst []byte, v uint8) []byte { return append(dst, codeUbyte, v) }

func appendSymbols(dst []byte, v []Symbol) []byte {
	if len(v) == 1 {
		return appendSymbol(dst, v[0])
	}
	array := make(Array, len(v))
	for i, s := range v {
		array[i] = s
	}
	dst, _ = appendArray(dst, array) // symbols are the arrays it can write
	return dst
}
