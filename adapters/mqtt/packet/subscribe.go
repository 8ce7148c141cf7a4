package packet

// MaxFilters bounds the filters of one SUBSCRIBE or UNSUBSCRIBE: the text sets
// no limit, and each costs many times its bytes on the wire.
const MaxFilters = 1024

// Filter is one subscription of a SUBSCRIBE (3.8.3). On 3.1.1 only Topic and
// QoS exist.
type Filter struct {
	Topic             string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0: send retained, 1: only if new, 2: never
}

// Subscribe asks for messages (3.8).
type Subscribe struct {
	ID         uint16
	Properties Properties
	Filters    []Filter
}

// Suback answers a SUBSCRIBE, one reason for each filter in order (3.9).
type Suback struct {
	ID         uint16
	Properties Properties
	Reasons    []Reason // 0, 1, 2 or 0x80 on 3.1.1
}

const (
	subNoLocal           = 1 << 2
	subRetainAsPublished = 1 << 3
	subRetainShift       = 4
	subReserved          = 0b1100_0000
	subReservedV311      = 0b1111_1100
)

// Type is SUBSCRIBE.
func (*Subscribe) Type() Type { return SUBSCRIBE }

// Type is SUBACK.
func (*Suback) Type() Type { return SUBACK }

func decodeSubscribe(d *decoder) *Subscribe {
	s := &Subscribe{ID: d.packetID(), Properties: d.properties(SUBSCRIBE, nil)}
	for d.err == nil && (len(d.b) > 0 || len(s.Filters) == 0) {
		if len(d.b) == 0 {
			d.fail(violation(ProtocolError, "SUBSCRIBE has no topic filter"))
			break
		}
		if len(s.Filters) == MaxFilters {
			d.fail(violation(QuotaExceeded, "SUBSCRIBE has over %d topic filters", MaxFilters))
			break
		}
		s.Filters = append(s.Filters, d.filter())
	}
	return s
}

func (d *decoder) filter() Filter {
	f := Filter{Topic: d.text()}
	options := d.u8()
	f.QoS = options & 3
	f.NoLocal = options&subNoLocal != 0
	f.RetainAsPublished = options&subRetainAsPublished != 0
	f.RetainHandling = options >> subRetainShift & 3
	reserved := byte(subReserved)
	if d.version < V5 {
		reserved = subReservedV311
	}
	switch {
	case d.err != nil:
	case options&reserved != 0:
		d.fail(malformed("reserved bits of the subscription options are set"))
	case f.QoS == 3:
		d.fail(malformed("subscription asks for QoS 3, it must be 0 to 2"))
	case f.RetainHandling == 3:
		d.fail(violation(ProtocolError, "retain handling is 3, it must be 0 to 2"))
	case f.NoLocal && IsShared(f.Topic):
		d.fail(violation(ProtocolError, "no local is set on a shared subscription"))
	default:
		if err := CheckFilter(f.Topic, d.version); err != nil {
			d.fail(err)
		}
	}
	return f
}

// Append encodes the packet.
func (s *Subscribe) Append(dst []byte, v Version) ([]byte, error) {
	e := encode(dst)
	e.u16(s.ID)
	if v >= V5 {
		e.properties(SUBSCRIBE, s.Properties)
	}
	for i := range s.Filters {
		f := &s.Filters[i]
		putBytes(&e, f.Topic)
		e.u8(f.options(v))
	}
	return e.finish(SUBSCRIBE, SUBSCRIBE.flags())
}

func (f *Filter) options(v Version) byte {
	o := f.QoS & 3
	if v < V5 {
		return o
	}
	if f.NoLocal {
		o |= subNoLocal
	}
	if f.RetainAsPublished {
		o |= subRetainAsPublished
	}
	return o | f.RetainHandling&3<<subRetainShift
}

func decodeSuback(d *decoder) *Suback {
	s := &Suback{ID: d.packetID(), Properties: d.properties(SUBACK, nil)}
	s.Reasons = d.reasons(SUBACK)
	return s
}

// reasons reads the rest of the packet as reason codes, at least one.
func (d *decoder) reasons(t Type) []Reason {
	var out []Reason
	if d.err == nil && len(d.b) == 0 {
		d.fail(violation(ProtocolError, "%s has no reason code", t))
	}
	for d.err == nil && len(d.b) > 0 {
		r := Reason(d.u8())
		if d.version >= V5 && !r.allowed(t) || d.version < V5 && r > GrantedQoS2 && r != V311SubscribeFailure {
			d.fail(malformed("%s is no reason code of %s", r, t))
		}
		out = append(out, r)
	}
	return out
}

// Append encodes the packet.
func (s *Suback) Append(dst []byte, v Version) ([]byte, error) {
	e := encode(dst)
	e.u16(s.ID)
	if v >= V5 {
		e.properties(SUBACK, s.Properties)
	}
	for _, r := range s.Reasons {
		e.u8(byte(r))
	}
	return e.finish(SUBACK, 0)
}
