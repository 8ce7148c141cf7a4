package packet

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP (3.4 to 3.7): they share a form.
type Ack struct {
	Kind       Type // which of the four
	ID         uint16
	Reason     Reason // always Success on 3.1.1
	Properties Properties
}

// Type is the kind of acknowledgement.
func (a *Ack) Type() Type { return a.Kind }

// decode fills a, reusing its property slice.
func (a *Ack) decode(d *decoder, t Type) {
	a.Kind = t
	a.ID = d.packetID()
	a.Reason = Success
	a.Properties = a.Properties[:0]
	if d.version >= V5 && len(d.b) > 0 {
		a.Reason, a.Properties = d.reasonAndProperties(t, a.Properties)
	}
	d.end()
}

// reasonAndProperties reads the tail many MQTT 5 packets may cut short: the
// property length is left out together with the properties (3.4.2.2.1).
func (d *decoder) reasonAndProperties(t Type, dst Properties) (Reason, Properties) {
	reason := Reason(d.u8())
	if d.err == nil && !reason.allowed(t) {
		d.fail(malformed("%s is no reason code of %s", reason, t))
	}
	if len(d.b) == 0 {
		return reason, dst[:0]
	}
	return reason, d.properties(t, dst)
}

// Append encodes the packet in its shortest form.
func (a *Ack) Append(dst []byte, v Version) ([]byte, error) {
	if len(a.Properties) == 0 || v < V5 {
		return AppendAck(dst, v, a.Kind, a.ID, a.Reason), nil
	}
	e := encode(dst)
	e.u16(a.ID)
	e.u8(byte(a.Reason))
	e.properties(a.Kind, a.Properties)
	return e.finish(a.Kind, a.Kind.flags())
}

// AppendAck encodes an acknowledgement without properties; the reason is left
// out where it is Success or the version has none.
func AppendAck(dst []byte, v Version, kind Type, id uint16, reason Reason) []byte {
	head := byte(kind)<<4 | kind.flags()
	if v < V5 || reason == Success {
		return append(dst, head, 2, byte(id>>8), byte(id))
	}
	return append(dst, head, 3, byte(id>>8), byte(id), byte(reason))
}
