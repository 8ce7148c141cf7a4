package normalize

import (
	"encoding/base64"
	"strings"

	"github.com/tributary-iot/tributary/device"
)

// label is a field of a SenML record (RFC 8428, table 1).
type label uint8

const (
	labelNone label = iota
	labelBVer
	labelBN
	labelBT
	labelBU
	labelBV
	labelBS
	labelN
	labelU
	labelV
	labelVS
	labelVB
	labelVD
	labelS
	labelT
	labelUT
)

var senmlLabels = map[string]label{
	"bver": labelBVer, "bn": labelBN, "bt": labelBT, "bu": labelBU, "bv": labelBV, "bs": labelBS,
	"n": labelN, "u": labelU, "v": labelV, "vs": labelVS, "vb": labelVB, "vd": labelVD,
	"s": labelS, "t": labelT, "ut": labelUT,
}

// senmlCBORLabels has the integers of table 4, as cborReader.key writes them.
var senmlCBORLabels = map[string]label{
	"-1": labelBVer, "-2": labelBN, "-3": labelBT, "-4": labelBU, "-5": labelBV, "-6": labelBS,
	"0": labelN, "1": labelU, "2": labelV, "3": labelVS, "4": labelVB, "5": labelS,
	"6": labelT, "7": labelUT, "8": labelVD,
}

func bit(l label) uint16 { return 1 << l }

// Kinds of fields, as sets of labels.
const (
	anyBase    = 1<<labelBN | 1<<labelBT | 1<<labelBU | 1<<labelBV | 1<<labelBS
	anyValue   = 1<<labelV | 1<<labelVS | 1<<labelVB | 1<<labelVD
	anyRegular = anyValue | 1<<labelN | 1<<labelU | 1<<labelS | 1<<labelT | 1<<labelUT
)

// senmlRecord is one record as it was sent.
type senmlRecord struct {
	seen                      uint16 // the labels that were there
	bver, bt, bv, bs, v, s, t float64
	bn, bu, n, u              string
	text, boolean, data       device.Value // vs, vb, vd
}

func (r *senmlRecord) has(l label) bool { return r.seen&bit(l) != 0 }

// value is the record's value, kind being its one label.
func (r *senmlRecord) value(kind uint16, base float64) device.Value {
	switch kind {
	case bit(labelV):
		return device.Double(base + r.v)
	case bit(labelVS):
		return r.text
	case bit(labelVB):
		return r.boolean
	case bit(labelVD):
		return r.data
	}
	return device.Value{}
}

// record reads one record of the pack.
func (p *pack) record() (r senmlRecord, err error) {
	if p.src.kind() != objectKind {
		if err := p.skip(); err != nil {
			return r, err // the payload ends here, or is none of JSON
		}
		return r, p.wrong("is not an object of fields")
	}
	left, err := p.enter()
	if err != nil {
		return r, err
	}
	for first := true; ; first = false {
		more, err := p.src.more(left, first, true)
		if err != nil || !more {
			p.depth--
			return r, err
		}
		left--
		if err := p.field(&r); err != nil {
			return r, err
		}
	}
}

// field reads one field. One we do not know is skipped, unless its label says
// that it must be understood (section 4.4).
func (p *pack) field(r *senmlRecord) error {
	labels := senmlLabels
	if p.cbor != nil {
		if p.cbor.plain(); p.cbor.major() != cborText {
			labels = senmlCBORLabels
		}
	}
	key, err := p.src.key()
	if err != nil {
		return err
	}
	l := labels[string(key)]
	switch {
	case l == labelNone && (p.strict || strings.HasSuffix(string(key), "_")):
		return p.wrong("has a field that must be understood and is not: " + shorten(string(key)))
	case l == labelNone:
		return p.skip()
	case r.has(l):
		return p.wrong("has the same field twice: " + string(key))
	case p.src.kind() != scalarKind:
		return p.wrong("has a field that is no single value: " + string(key))
	}
	r.seen |= bit(l)
	v, err := p.src.scalar()
	if err == nil && !p.set(r, l, v) {
		err = p.wrong("has a field of the wrong type: " + string(key))
	}
	return err
}

// set reports whether v is of the type its label asks for.
func (p *pack) set(r *senmlRecord, l label, v device.Value) bool {
	number, isNumber := v.Number()
	isText := v.Kind() == device.KindString
	switch l {
	case labelBVer:
		r.bver = number
	case labelBT:
		r.bt = number
	case labelBV:
		r.bv = number
	case labelBS:
		r.bs = number
	case labelV:
		r.v = number
	case labelS:
		r.s = number
	case labelT:
		r.t = number
	case labelUT:
	case labelBN:
		r.bn, isNumber = v.Text(), isText
	case labelBU:
		r.bu, isNumber = v.Text(), isText
	case labelN:
		r.n, isNumber = v.Text(), isText
	case labelU:
		r.u, isNumber = v.Text(), isText
	case labelVS:
		r.text = v
		return isText
	case labelVB:
		r.boolean = v
		return v.Kind() == device.KindBool
	case labelVD:
		return p.setData(r, v)
	}
	return isNumber
}

// setData takes a data value: bytes in CBOR, in JSON base64 with the URL-safe
// alphabet and no padding, which is forgiven.
func (p *pack) setData(r *senmlRecord, v device.Value) bool {
	r.data = v
	if p.cbor != nil {
		return v.Kind() == device.KindBytes
	}
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(v.Text(), "="))
	r.data = device.Bytes(data)
	return err == nil && v.Kind() == device.KindString
}

// shorten bounds what of a payload is repeated in a message.
func shorten(s string) string {
	if len(s) > 32 {
		return strings.ToValidUTF8(s[:32], "") + "…"
	}
	return s
}
