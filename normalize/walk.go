package normalize

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// kind is what a value of the formats that nest is made of.
type kind uint8

const (
	scalarKind kind = iota
	objectKind      // a JSON object, a CBOR map
	arrayKind
)

// source reads the values of one format from front to back. The walk asks in
// the order of the text: kind, then scalar, or begin and more before each
// element, key before each value of an object.
type source interface {
	kind() kind
	// begin steps into an object or array and answers how many elements or
	// pairs it holds; negative when only its end will tell.
	begin() (count int)
	// more reports whether another element follows and steps over what stands
	// between two, or over the end. left is count less the elements read.
	more(left int, first, object bool) (bool, error)
	// key reads an object's key; the bytes are good until the next string is
	// read. A nil key is one that names nothing: its value is payload only.
	key() ([]byte, error)
	// scalar reads a value that does not nest. The zero Value is one that
	// gives no measurement, such as null.
	scalar() (device.Value, error)
	// at is the place reached, in bytes, for messages.
	at() int
}

// walk goes through one payload and collects its measurements, by the rules of
// the package comment, without building a tree.
type walk struct {
	src   source
	out   []device.Measurement
	path  []byte // name of the value in hand
	depth int
	muted int // above 0 inside what is payload only
	names *names
}

// names are the strings of names met lately, each at the place its hash gives it:
// devices say the same few again and again.
type names [64]string

var nameSeed = maphash.MakeSeed()

// of is the string of a name; no names make a new one.
func (n *names) of(name []byte) string {
	if n == nil {
		return string(name)
	}
	place := &n[maphash.Bytes(nameSeed, name)%uint64(len(n))]
	if *place != string(name) {
		*place = string(name)
	}
	return *place
}

// walks lend their buffers to one payload after another.
var walks = sync.Pool{New: func() any {
	return &walk{path: make([]byte, 0, 128), out: make([]device.Measurement, 0, 16), names: new(names)}
}}

// What a walk that is given back may have room for.
const (
	maxLentFinds = 256
	maxLentPath  = 4 << 10
)

// walkInto fills m from the document of a source; end says whether the source ends
// with it. On an error m is unchanged.
func walkInto(m *device.Message, src source, end func() error) error {
	w := walks.Get().(*walk)
	w.src = src
	at, err := w.document()
	if err == nil {
		err = end()
	}
	if err == nil {
		fill(m, slices.Clone(w.out), at)
	}
	if cap(w.out) <= maxLentFinds && cap(w.path) <= maxLentPath {
		clear(w.out)
		*w = walk{path: w.path[:0], out: w.out[:0], names: w.names}
		walks.Put(w)
	}
	return err
}

// document reads the value that is the whole payload; at is the time of the
// outermost object.
func (w *walk) document() (at time.Time, err error) {
	switch w.src.kind() {
	case objectKind:
		return w.object()
	case arrayKind:
		return at, w.array()
	}
	w.path = append(w.path, valueName...)
	_, err = w.scalarMember()
	return at, err
}

// skip reads a value of any kind and keeps nothing of it.
func (w *walk) skip() error {
	w.muted++
	err := w.value()
	w.muted--
	return err
}

// value reads a value of any kind under the name in hand.
func (w *walk) value() (err error) {
	switch w.src.kind() {
	case objectKind:
		_, err = w.object()
	case arrayKind:
		err = w.array()
	default:
		_, err = w.scalarMember()
	}
	return err
}

// object reads an object; the walk stands before it. It answers the object's
// own time, which its measurements have been given.
func (w *walk) object() (time.Time, error) {
	left, err := w.enter()
	if err != nil {
		return time.Time{}, err
	}
	first, base := len(w.out), len(w.path)
	var rec record
	for start := true; ; start = false {
		if more, err := w.src.more(left, start, true); err != nil || !more {
			if err != nil {
				return time.Time{}, err
			}
			break
		}
		left--
		key, err := w.src.key()
		if err != nil {
			return time.Time{}, err
		}
		if key == nil {
			rec.other = true
			err = w.skip()
		} else {
			r := roleOf(key)
			w.path = appendKey(w.path[:base], key)
			err = w.member(&rec, r)
		}
		if err != nil {
			return time.Time{}, err
		}
	}
	w.depth--
	w.path = w.path[:base]
	if err := w.foldRecord(&rec, first); err != nil {
		return time.Time{}, err
	}
	w.date(first, rec.at)
	return rec.at, nil
}

// date gives measurements from first on that have no time of their own that one.
func (w *walk) date(first int, at time.Time) {
	if at.IsZero() {
		return
	}
	for i := first; i < len(w.out); i++ {
		if w.out[i].Time.IsZero() {
			w.out[i].Time = at
		}
	}
}

// member reads the value of one key of an object.
func (w *walk) member(rec *record, r role) error {
	if w.src.kind() != scalarKind {
		rec.other = true
		return w.value()
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

// array reads an array; the walk stands before it.
func (w *walk) array() error {
	left, err := w.enter()
	if err != nil {
		return err
	}
	first, base, indexed := len(w.out), len(w.path), 0
	muted := w.muted
	for index := 0; ; index++ {
		if more, err := w.src.more(left, index == 0, false); err != nil || !more {
			if err != nil {
				return err
			}
			break
		}
		left--
		if w.src.kind() == objectKind {
			_, err = w.object()
		} else {
			if indexed++; indexed == MaxIndexed+1 {
				w.out = w.out[:first]
				w.muted++
			}
			w.path = appendIndex(w.path, index)
			err = w.value()
			w.path = w.path[:base]
		}
		if err != nil {
			return err
		}
	}
	w.muted = muted
	w.depth--
	return nil
}

// scalarMember reads a scalar and keeps it as a measurement, unless it is null
// or too long to be one.
func (w *walk) scalarMember() (device.Value, error) {
	v, err := w.src.scalar()
	if err != nil || v.Kind() == device.KindNone || len(v.Text()) > MaxStringBytes {
		return v, err
	}
	return v, w.add(v)
}

// add keeps v under the name in hand.
func (w *walk) add(v device.Value) error {
	switch {
	case w.muted > 0:
		return nil
	case len(w.out) == MaxMeasurements:
		return errTooMany()
	case len(w.path) > MaxNameBytes:
		return device.Errorf(device.Invalid, "name of the measurement before byte %d is %d bytes long, the limit is %d", w.src.at(), len(w.path), MaxNameBytes)
	case hasControl(w.path):
		return device.Errorf(device.Invalid, "name of the measurement before byte %d contains a control character", w.src.at())
	}
	w.out = append(w.out, device.Measurement{Name: w.names.of(w.path), Value: v})
	return nil
}

func errTooMany() error {
	return device.Errorf(device.Invalid, "payload holds more than %d measurements; send it in parts", MaxMeasurements)
}

// enter steps into an object or array.
func (w *walk) enter() (count int, err error) {
	if w.depth++; w.depth > MaxDepth {
		return 0, device.Errorf(device.Invalid, "payload nests deeper than %d levels at byte %d", MaxDepth, w.src.at())
	}
	return w.src.begin(), nil
}
