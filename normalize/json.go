package normalize

import (
	"bytes"
	"time"
	"unicode/utf8"

	"github.com/tributary-iot/tributary/device"
)

// decodeJSON fills m from its payload in one pass over the bytes, without
// building a tree. On an error m is unchanged.
func decodeJSON(m *device.Message) error {
	if !utf8.Valid(m.Payload) {
		return syntaxError(invalidUTF8At(m.Payload), "not valid UTF-8")
	}
	var path [128]byte
	w := walk{scanner: scanner{p: m.Payload}, path: path[:0]}
	if likely := bytes.Count(m.Payload, []byte{','}) + 1; likely <= 64 {
		w.out = make([]device.Measurement, 0, likely)
	}
	at, err := w.document()
	if err != nil {
		return err
	}
	m.Measurements = w.out
	if len(w.out) == 0 {
		m.Measurements = nil
	}
	if m.CreatedAt.IsZero() {
		m.CreatedAt = at
	}
	return nil
}

// walk goes through one JSON text and collects its measurements.
type walk struct {
	scanner
	out   []device.Measurement
	path  []byte // name of the value in hand
	depth int
	muted int // above 0 inside an array that is payload only
}

// document reads the whole text; at is the time of the outermost object.
func (w *walk) document() (at time.Time, err error) {
	switch w.peek() {
	case '{':
		at, err = w.object()
	case '[':
		err = w.array()
	default:
		w.path = append(w.path, valueName...)
		_, err = w.scalarMember()
	}
	if err != nil {
		return at, err
	}
	if w.peek(); w.i < len(w.p) {
		err = syntaxError(w.i, "more text after the end of the value")
	}
	return at, err
}

// record is what is known of an object while its members go by.
type record struct {
	at                time.Time
	name, value, unit int  // 1 + index in walk.out; 0 when not seen
	hasValue          bool // a "value" was there, perhaps null
	other             bool // holds something a name-value-unit record does not
}

// object reads an object; the walk stands on its "{". It answers the object's
// own time, which its measurements have been given.
func (w *walk) object() (time.Time, error) {
	if err := w.enter(); err != nil {
		return time.Time{}, err
	}
	first, base := len(w.out), len(w.path)
	var rec record
	for more := w.peek() != '}'; more; {
		key, err := w.key()
		if err != nil {
			return time.Time{}, err
		}
		r := roleOf(key)
		w.path = appendKey(w.path[:base], key)
		if err := w.member(&rec, r); err != nil {
			return time.Time{}, err
		}
		if more, err = w.more('}'); err != nil {
			return time.Time{}, err
		}
	}
	w.leave()
	w.path = w.path[:base]
	if err := w.foldRecord(&rec, first); err != nil {
		return time.Time{}, err
	}
	if !rec.at.IsZero() {
		for i := first; i < len(w.out); i++ {
			if w.out[i].Time.IsZero() {
				w.out[i].Time = rec.at
			}
		}
	}
	return rec.at, nil
}

// member reads the value of one key of an object.
func (w *walk) member(rec *record, r role) error {
	switch w.peek() {
	case '{':
		rec.other = true
		_, err := w.object()
		return err
	case '[':
		rec.other = true
		return w.array()
	}
	before := len(w.out)
	v, err := w.scalarMember()
	if err != nil {
		return err
	}
	if r == roleTime && rec.at.IsZero() {
		if t, ok := timestamp(v); ok {
			rec.at = t
			w.out = w.out[:before]
			return nil
		}
	}
	rec.note(r, v, len(w.out), len(w.out) > before)
	return nil
}

// note remembers where the parts of a name-value-unit record were put.
func (rec *record) note(r role, v device.Value, place int, kept bool) {
	if !kept {
		place = 0
	}
	switch {
	case r == roleName && rec.name == 0 && v.Kind() == device.KindString && kept:
		rec.name = place
	case r == roleUnit && rec.unit == 0 && v.Kind() == device.KindString && kept:
		rec.unit = place
	case r == roleValue && !rec.hasValue && (kept || v.Kind() == device.KindNone):
		rec.value, rec.hasValue = place, true
	default:
		rec.other = true
	}
}

// foldRecord turns the members of a {"name", "value", "unit"} object, which
// begin at first, into the one measurement they describe.
func (w *walk) foldRecord(rec *record, first int) error {
	if rec.other || rec.name == 0 || !rec.hasValue || w.muted > 0 {
		return nil
	}
	name := w.out[rec.name-1].Value.Text()
	if name == "" {
		return nil
	}
	var unit string
	if rec.unit > 0 {
		unit = w.out[rec.unit-1].Value.Text()
	}
	var value device.Value
	if rec.value > 0 {
		value = w.out[rec.value-1].Value
	}
	w.out = w.out[:first]
	if value.Kind() == device.KindNone {
		return nil
	}
	base := len(w.path)
	if base > 0 {
		w.path = append(w.path, '.')
	}
	w.path = append(w.path, name...)
	err := w.add(value)
	w.path = w.path[:base]
	if err == nil {
		w.out[first].Unit = unit
	}
	return err
}

// array reads an array; the walk stands on its "[".
func (w *walk) array() error {
	if err := w.enter(); err != nil {
		return err
	}
	first, base, indexed := len(w.out), len(w.path), 0
	muted := w.muted
	for index, more := 0, w.peek() != ']'; more; index++ {
		var err error
		if w.peek() == '{' {
			_, err = w.object()
		} else {
			if indexed++; indexed == MaxIndexed+1 {
				w.out = w.out[:first]
				w.muted++
			}
			err = w.indexed(index)
			w.path = w.path[:base]
		}
		if err != nil {
			return err
		}
		if more, err = w.more(']'); err != nil {
			return err
		}
	}
	w.muted = muted
	w.leave()
	return nil
}

func (w *walk) indexed(index int) error {
	w.path = appendIndex(w.path, index)
	if w.peek() == '[' {
		return w.array()
	}
	_, err := w.scalarMember()
	return err
}

// scalarMember reads a scalar and keeps it as a measurement, unless it is null
// or too long to be one.
func (w *walk) scalarMember() (device.Value, error) {
	v, err := w.scalar()
	if err != nil || v.Kind() == device.KindNone {
		return v, err
	}
	if v.Kind() == device.KindString && len(v.Text()) > MaxStringBytes {
		return v, nil
	}
	return v, w.add(v)
}

// add keeps v under the name in hand.
func (w *walk) add(v device.Value) error {
	switch {
	case w.muted > 0:
		return nil
	case len(w.out) == MaxMeasurements:
		return device.Errorf(device.Invalid, "payload holds more than %d measurements; send it in parts", MaxMeasurements)
	case len(w.path) > MaxNameBytes:
		return device.Errorf(device.Invalid, "name of the measurement before byte %d is %d bytes long, the limit is %d", w.i, len(w.path), MaxNameBytes)
	case hasControl(w.path):
		return device.Errorf(device.Invalid, "name of the measurement before byte %d contains a control character", w.i)
	}
	w.out = append(w.out, device.Measurement{Name: string(w.path), Value: v})
	return nil
}

// enter steps over "{" or "[".
func (w *walk) enter() error {
	if w.depth++; w.depth > MaxDepth {
		return device.Errorf(device.Invalid, "payload nests deeper than %d levels at byte %d", MaxDepth, w.i)
	}
	w.i++
	return nil
}

// leave steps over "}" or "]".
func (w *walk) leave() { w.depth--; w.i++ }
