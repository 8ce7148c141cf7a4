package amqp

import (
	"bytes"
	"fmt"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/doorway"
)

// sasl speaks the server's side of SASL (part 5, section 3). It answers whether
// the peer is known now; an anonymous one is known at OPEN, by its container id.
func (c *conn) sasl() (known bool, err error) {
	header := wire.ProtocolHeader(wire.ProtoSASL)
	offer := &wire.SASLMechanisms{Mechanisms: []wire.Symbol{wire.MechPlain, wire.MechAnonymous}}
	certified := doorway.PeerCertificate(c.nc) != nil
	if certified {
		offer.Mechanisms = append([]wire.Symbol{wire.MechExternal}, offer.Mechanisms...)
	}
	if _, err := c.nc.Write(wire.AppendFrame(header[:], wire.FrameSASL, 0, offer, nil)); err != nil {
		return false, err
	}
	p, err := c.readSASL()
	if err != nil {
		return false, err
	}
	init, ok := p.(*wire.SASLInit)
	if !ok {
		return false, fmt.Errorf("%w: SASL begins with sasl-init", errHandshake)
	}
	switch {
	case init.Mechanism == wire.MechExternal && certified: // RFC 4422, appendix A: the response names whom to act as
		known = true
		err = c.authenticate(device.Credential{User: string(init.Response)})
	case init.Mechanism == wire.MechAnonymous:
		err = c.authenticate(device.Credential{Anonymous: true})
	case init.Mechanism == wire.MechPlain:
		known = true
		err = c.plain(init.Response)
	default:
		err = device.Errorf(device.Unauthenticated, "the mechanism %q was not offered", init.Mechanism)
	}
	outcome := &wire.SASLOutcome{Code: saslCode(err)}
	if _, werr := c.nc.Write(wire.AppendFrame(nil, wire.FrameSASL, 0, outcome, nil)); werr != nil {
		return false, werr
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", errHandshake, err)
	}
	return known, nil
}

// saslCode is the outcome of an authentication (part 5, section 3.3.6).
func saslCode(err error) uint8 {
	switch {
	case err == nil:
		return wire.SASLOK
	case device.CodeOf(err).Retryable():
		return wire.SASLSysTemp
	}
	return wire.SASLAuth
}

// plain checks authzid NUL authcid NUL password (RFC 4616).
func (c *conn) plain(response []byte) error {
	if len(response) == 0 { // the peer waits to be asked
		challenge := wire.AppendFrame(nil, wire.FrameSASL, 0, &wire.SASLChallenge{}, nil)
		if _, err := c.nc.Write(challenge); err != nil {
			return err
		}
		p, err := c.readSASL()
		if err != nil {
			return err
		}
		answer, ok := p.(*wire.SASLResponse)
		if !ok {
			return device.Errorf(device.Unauthenticated, "a sasl-response is expected")
		}
		response = answer.Response
	}
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 {
		return device.Errorf(device.Unauthenticated, "PLAIN needs an identity, a user and a password")
	}
	if len(parts[0]) > 0 && !bytes.Equal(parts[0], parts[1]) {
		return device.Errorf(device.Unauthenticated, "nobody may act for another identity")
	}
	return c.authenticate(device.Credential{User: string(parts[1]), Secret: string(parts[2])})
}

func (c *conn) readSASL() (wire.Performative, error) {
	var buf []byte
	_, body, err := c.readFrame(wire.FrameSASL, wire.MaxSASLFrame, &buf)
	if err != nil {
		return nil, err
	}
	p, _, err := wire.DecodePerformative(body)
	return p, err
}
