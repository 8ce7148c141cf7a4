package packet

// Unsubscribe withdraws subscriptions (3.10).
type Unsubscribe struct {
	ID         uint16
	Properties Properties
	Filters    []string
}

// Unsuback answers an UNSUBSCRIBE (3.11).
type Unsuback struct {
	ID         uint16
	Properties Properties
	Reasons    []Reason // one for each filter in order; none on 3.1.1
}

// Type is UNSUBSCRIBE.
func (*Unsubscribe) Type() Type { return UNSUBSCRIBE }

// Type is UNSUBACK.
func (*Unsuback) Type() Type { return UNSUBACK }

func decodeUnsubscribe(d *decoder) *Unsubscribe {
	u := &Unsubscribe{ID: d.packetID(), Properties: d.properties(UNSUBSCRIBE, nil)}
	if d.err == nil && len(d.b) == 0 {
		d.fail(violation(ProtocolError, "UNSUBSCRIBE has no topic filter"))
	}
	for d.err == nil && len(d.b) > 0 {
		if len(u.Filters) == MaxFilters {
			d.fail(violation(QuotaExceeded, "UNSUBSCRIBE has over %d topic filters", MaxFilters))
			break
		}
		filter := d.text()
		if err := CheckFilter(filter, d.version); err != nil && d.err == nil {
			d.fail(err)
		}
		u.Filters = append(u.Filters, filter)
	}
	return u
}

// Append encodes the packet.
func (u *Unsubscribe) Append(dst []byte, v Version) ([]byte, error) {
	e := encode(dst)
	e.u16(u.ID)
	if v >= V5 {
		e.properties(UNSUBSCRIBE, u.Properties)
	}
	for _, f := range u.Filters {
		putBytes(&e, f)
	}
	return e.finish(UNSUBSCRIBE, UNSUBSCRIBE.flags())
}

func decodeUnsuback(d *decoder) *Unsuback {
	u := &Unsuback{ID: d.packetID(), Properties: d.properties(UNSUBACK, nil)}
	if d.version >= V5 {
		u.Reasons = d.reasons(UNSUBACK)
	}
	d.end()
	return u
}

// Append encodes the packet.
func (u *Unsuback) Append(dst []byte, v Version) ([]byte, error) {
	e := encode(dst)
	e.u16(u.ID)
	if v >= V5 {
		e.properties(UNSUBACK, u.Properties)
		for _, r := range u.Reasons {
			e.u8(byte(r))
		}
	}
	return e.finish(UNSUBACK, 0)
}
