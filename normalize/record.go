package normalize

import (
	"time"

	"github.com/tributary-iot/tributary/device"
)

// record is what is known of an object while its members go by: its time, and
// whether it is a {"name", "value", "unit"} object.
type record struct {
	at                time.Time
	name, value, unit int  // 1 + index in walk.out; 0 when not seen
	hasValue          bool // a "value" was there, perhaps null
	other             bool // holds something a name-value-unit record does not
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

// foldRecord turns the members of a name-value-unit record, which begin at
// first, into the one measurement they describe.
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
