package normalize

import (
	"math"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// The SenML versions read here: 10 and the drafts before it (RFC 8428, section
// 4.4), and 10 with the feature "secondary units" (RFC 9100, section 4).
const (
	senmlVersion          = 10
	senmlVersionSecondary = 26
)

// senmlRelative divides times relative to now from those since 1970 (RFC 8428,
// section 4.5.3).
const senmlRelative = 1 << 28

// maxUnitBytes bounds a unit; the longest registered one has 8.
const maxUnitBytes = 64

// decodeSenML fills m from a SenML pack in JSON (RFC 8428, section 5).
func decodeSenML(m *device.Message) error { return decodePack(m, false) }

// sniffSenML is decodeSenML or decodeSenMLCBOR for a pack that was not declared
// to be one: it takes no field it does not know.
func sniffSenML(m *device.Message) error {
	if m.ContentType == typeSenMLCBOR {
		return decodePackCBOR(m, true)
	}
	return decodePack(m, true)
}

func decodePack(m *device.Message, strict bool) error {
	s, err := scan(m.Payload)
	if err != nil {
		return err
	}
	p := pack{walk: walk{src: s}, strict: strict, now: timeOf(m)}
	if err = p.read(); err == nil {
		err = s.end()
	}
	return p.finish(m, err)
}

// decodeSenMLCBOR fills m from a SenML pack in CBOR (RFC 8428, section 6).
func decodeSenMLCBOR(m *device.Message) error { return decodePackCBOR(m, false) }

func decodePackCBOR(m *device.Message, strict bool) error {
	r, err := readCBOR(m.Payload)
	if err != nil {
		return err
	}
	p := pack{walk: walk{src: r}, cbor: r, strict: strict, now: timeOf(m)}
	return p.finish(m, p.read())
}

// pack reads a SenML pack and resolves its records (RFC 8428, section 4.6).
type pack struct {
	walk
	cbor   *cborReader // the source, when it is CBOR
	strict bool        // sniffing: a label we do not know is another format
	now    time.Time   // what relative times are relative to
	number int         // of the record in hand, from 1

	base    senmlRecord // what is in force
	version float64
}

func (p *pack) finish(m *device.Message, err error) error {
	if err != nil {
		return err
	}
	if p.strict && len(p.out) == 0 {
		return device.Errorf(device.Undecodable, "no record holds a value") // so it may be anything
	}
	fill(m, p.out, time.Time{})
	return nil
}

// read reads the array of records.
func (p *pack) read() error {
	if p.src.kind() != arrayKind {
		return device.Errorf(device.Undecodable, "payload is not SenML: it must be an array of records")
	}
	left, err := p.enter()
	if err != nil {
		return err
	}
	for {
		more, err := p.src.more(left, p.number == 0, false)
		if err != nil || !more {
			return err
		}
		left--
		p.number++
		r, err := p.record()
		if err == nil {
			err = p.resolve(&r)
		}
		if err != nil {
			return err
		}
	}
}

// wrong refuses the pack for its record in hand.
func (p *pack) wrong(what string) error {
	return device.Errorf(device.Undecodable, "payload is not SenML: record %d %s", p.number, what)
}

// resolve applies the base fields to a record, and keeps its measurements.
func (p *pack) resolve(r *senmlRecord) error {
	if err := p.rebase(r); err != nil {
		return err
	}
	kinds := r.seen & anyValue
	sum := r.has(labelS) || p.base.has(labelBS) && kinds&^bit(labelV) == 0
	switch {
	case kinds&(kinds-1) != 0:
		return p.wrong("has more than one of v, vs, vb and vd")
	case kinds == 0 && r.seen&anyRegular == 0:
		return nil // base fields for those that follow, as in section 5.1.7
	case kinds == 0 && p.base.has(labelBV):
		kinds = bit(labelV) // the value is the base value (section 4.5.4)
	case kinds == 0 && !sum:
		return p.wrong("has no value: it needs one of v, vs, vb, vd and s")
	}
	name, at, err := p.identify(r)
	if err != nil {
		return err
	}
	unit := p.base.bu
	if r.has(labelU) {
		unit = r.u
	}
	if len(unit) > maxUnitBytes || hasControl([]byte(unit)) {
		return p.wrong("has a unit that is too long or holds control characters")
	}
	p.path = append(p.path[:0], name...)
	if err := p.keep(r.value(kinds, p.base.bv), unit, at); err != nil || !sum {
		return err
	}
	p.path = append(p.path, ".sum"...)
	return p.keepSum(p.base.bs+r.s, unit, at)
}

// rebase takes over the base fields of a record (section 4.1).
func (p *pack) rebase(r *senmlRecord) error {
	b := &p.base
	if r.has(labelBN) {
		b.bn = r.bn
	}
	if r.has(labelBT) {
		b.bt = r.bt
	}
	if r.has(labelBU) {
		b.bu = r.bu
	}
	if r.has(labelBV) {
		b.bv = r.bv
	}
	if r.has(labelBS) {
		b.bs = r.bs
	}
	b.seen |= r.seen & anyBase
	if !r.has(labelBVer) {
		return nil
	}
	version := r.bver
	switch {
	case version != math.Trunc(version) || version < 1:
		return p.wrong("has a bver that is no positive integer")
	case version > senmlVersion && version != senmlVersionSecondary:
		return p.wrong("asks for a newer SenML: bver may be up to 10, or 26 for secondary units")
	case p.version == 0 && p.number > 1 && version != senmlVersion, p.version != 0 && version != p.version:
		return p.wrong("has another bver than the records before it")
	}
	p.version = version
	return nil
}

// identify resolves name and time of a record.
func (p *pack) identify(r *senmlRecord) (name string, at time.Time, err error) {
	name = p.base.bn + r.n
	if !isSenMLName(name) {
		return "", at, p.wrong(`needs a name (bn and n together) of A-Z a-z 0-9 - : . / _ that begins with a letter or digit`)
	}
	seconds := p.base.bt + r.t
	switch {
	case seconds >= latest || seconds < -latest:
		return "", at, p.wrong("has a time beyond the year 2100 or before 1970")
	case seconds < senmlRelative:
		at = p.now.Add(time.Duration(math.Round(seconds*1e6)) * time.Microsecond)
	default:
		whole, fraction := math.Modf(seconds)
		at = time.Unix(int64(whole), int64(math.Round(fraction*1e6))*1000).UTC()
	}
	if at.Unix() < 0 || at.Unix() >= latest {
		return "", at, p.wrong("has a time beyond the year 2100 or before 1970")
	}
	return name, at, nil
}

// isSenMLName reports whether a resolved name is one (section 4.5.1).
func isSenMLName(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || isDigit(c)
		if !letter && (i == 0 || c != '-' && c != ':' && c != '.' && c != '/' && c != '_') {
			return false
		}
	}
	return name != ""
}

// keep keeps a value, in the primary unit where its unit is a secondary one.
func (p *pack) keep(v device.Value, unit string, at time.Time) error {
	if u, ok := senmlUnits[unit]; ok && v.Kind() == device.KindDouble {
		v, unit = device.Double(u.primary(v.Double())), u.symbol(unit)
	}
	return p.measured(v, unit, at)
}

// keepSum keeps the integral of a value over time, in seconds.
func (p *pack) keepSum(sum float64, unit string, at time.Time) error {
	if u, ok := senmlUnits[unit]; ok && u.offset == 0 {
		sum, unit = u.primary(sum), u.symbol(unit)
	}
	return p.measured(device.Double(sum), integralUnit(unit), at)
}

func (p *pack) measured(v device.Value, unit string, at time.Time) error {
	switch {
	case v.Kind() == device.KindNone || len(v.Text()) > MaxStringBytes:
		return nil // payload only
	case v.Kind() == device.KindDouble && finite(v.Double()).Kind() == device.KindNone:
		return device.Errorf(device.Invalid, "value of record %d is too large for a 64-bit float", p.number)
	}
	before := len(p.out)
	if err := p.add(v); err != nil {
		return err
	}
	p.out[before].Unit, p.out[before].Time = unit, at
	return nil
}
