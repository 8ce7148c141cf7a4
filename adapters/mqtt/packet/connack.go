package packet

// Connack is the server's answer to CONNECT (3.2).
type Connack struct {
	SessionPresent bool
	Reason         Reason // a return code 0 to 5 on 3.1.1
	Properties     Properties
}

// Type is CONNACK.
func (*Connack) Type() Type { return CONNACK }

func decodeConnack(d *decoder) *Connack {
	c := &Connack{}
	flags := d.u8()
	c.SessionPresent = flags&1 != 0
	c.Reason = Reason(d.u8())
	c.Properties = d.properties(CONNACK, nil)
	d.end()
	d.checkAuth(c.Properties)
	switch {
	case d.err != nil:
	case flags > 1:
		d.fail(malformed("reserved bits of the CONNACK flags are set"))
	case d.version >= V5 && !c.Reason.allowed(CONNACK), d.version < V5 && c.Reason > V311NotAuthorized:
		d.fail(malformed("%s is no reason code of CONNACK", c.Reason))
	case c.SessionPresent && c.Reason != Success:
		d.fail(violation(ProtocolError, "session present is set on a refusal"))
	}
	return c
}

// Append encodes the packet.
func (c *Connack) Append(dst []byte, v Version) ([]byte, error) {
	e := encode(dst)
	if c.SessionPresent {
		e.u8(1)
	} else {
		e.u8(0)
	}
	e.u8(byte(c.Reason))
	if v >= V5 {
		e.properties(CONNACK, c.Properties)
	}
	return e.finish(CONNACK, 0)
}
