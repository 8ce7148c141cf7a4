package packet

import "errors"

// Disconnect is the last packet of a connection (3.14). On 3.1.1 only the
// client sends it, and it has no fields.
type Disconnect struct {
	Reason     Reason
	Properties Properties
}

// Auth carries one step of extended authentication (3.15), MQTT 5 only.
type Auth struct {
	Reason     Reason
	Properties Properties
}

// Pingreq asks for a sign of life (3.12).
type Pingreq struct{}

// Pingresp answers a Pingreq (3.13).
type Pingresp struct{}

// Type is DISCONNECT.
func (*Disconnect) Type() Type { return DISCONNECT }

// Type is AUTH.
func (*Auth) Type() Type { return AUTH }

// Type is PINGREQ.
func (Pingreq) Type() Type { return PINGREQ }

// Type is PINGRESP.
func (Pingresp) Type() Type { return PINGRESP }

func decodeDisconnect(d *decoder) *Disconnect {
	p := &Disconnect{}
	if d.version >= V5 && len(d.b) > 0 {
		p.Reason, p.Properties = d.reasonAndProperties(DISCONNECT, nil)
	}
	d.end()
	return p
}

func decodeAuth(d *decoder) *Auth {
	p := &Auth{}
	if d.version < V5 {
		d.fail(malformed("packet type 15 is reserved on MQTT 3.1.1"))
	}
	if len(d.b) > 0 {
		p.Reason, p.Properties = d.reasonAndProperties(AUTH, nil)
	}
	d.end()
	d.checkAuth(p.Properties)
	return p
}

// Append encodes the packet.
func (p *Disconnect) Append(dst []byte, v Version) ([]byte, error) {
	if v < V5 {
		return append(dst, byte(DISCONNECT)<<4, 0), nil
	}
	return appendReason(dst, DISCONNECT, p.Reason, p.Properties)
}

// Append encodes the packet; it fails on 3.1.1, which has no AUTH.
func (p *Auth) Append(dst []byte, v Version) ([]byte, error) {
	if v < V5 {
		return dst, errors.New("AUTH does not exist on MQTT 3.1.1")
	}
	return appendReason(dst, AUTH, p.Reason, p.Properties)
}

func appendReason(dst []byte, t Type, reason Reason, props Properties) ([]byte, error) {
	e := encode(dst)
	if reason != Success || len(props) > 0 {
		e.u8(byte(reason))
	}
	if len(props) > 0 {
		e.properties(t, props)
	}
	return e.finish(t, 0)
}

// Append encodes the packet.
func (Pingreq) Append(dst []byte, _ Version) ([]byte, error) {
	return append(dst, byte(PINGREQ)<<4, 0), nil
}

// Append encodes the packet.
func (Pingresp) Append(dst []byte, _ Version) ([]byte, error) {
	return append(dst, byte(PINGRESP)<<4, 0), nil
}
