package amqp

import (
	"fmt"
	"io"
	"math"
	"time"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/doorway"
)

// handshake agrees on the protocol, learns who the peer is and exchanges OPEN
// (part 2, sections 2.2 and 4.1). It writes to the socket itself.
func (c *conn) handshake() error {
	if err := c.armRead(c.cfg.HandshakeTimeout); err != nil {
		return err
	}
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.cfg.HandshakeTimeout)); err != nil {
		return err
	}
	proto, err := c.readHeader()
	if err != nil {
		return err
	}
	known := false
	if proto == wire.ProtoSASL {
		if known, err = c.sasl(); err != nil {
			return err
		}
		if proto, err = c.readHeader(); err != nil {
			return err
		}
	}
	header := wire.ProtocolHeader(wire.ProtoAMQP)
	if _, err := c.nc.Write(header[:]); err != nil {
		return err
	}
	if proto != wire.ProtoAMQP {
		return fmt.Errorf("%w: protocol id %d after SASL", errHandshake, proto)
	}
	return c.open(known)
}

// readHeader reads a protocol header. A peer that asks for something else is
// told what it could have, and loses the connection (part 2, section 2.2).
func (c *conn) readHeader() (uint8, error) {
	var b [8]byte
	if _, err := io.ReadFull(c.in, b[:]); err != nil {
		return 0, err
	}
	for _, proto := range []uint8{wire.ProtoAMQP, wire.ProtoSASL} {
		if b == wire.ProtocolHeader(proto) {
			return proto, nil
		}
	}
	header := wire.ProtocolHeader(wire.ProtoSASL)
	_, _ = c.nc.Write(header[:])
	return 0, fmt.Errorf("%w: the protocol header %x is not one of AMQP 1.0", errHandshake, b)
}

// open exchanges OPEN. A peer without a credential is authenticated here,
// because its container id may name it.
func (c *conn) open(known bool) error {
	var buf []byte
	_, body, err := c.readFrame(wire.FrameAMQP, min(c.cfg.MaxFrameSize, maxOpenFrame), &buf)
	if err != nil {
		return c.refuseOpen(wire.CondFramingError, err)
	}
	p, _, err := wire.DecodePerformative(body)
	if err != nil {
		return c.refuseOpen(wire.CondDecodeError, err)
	}
	o, ok := p.(*wire.Open)
	if !ok {
		return c.refuseOpen(wire.CondNotAllowed, fmt.Errorf("the first frame must be open"))
	}
	if o.MaxFrameSize < wire.MinMaxFrameSize {
		return c.refuseOpen(wire.CondInvalidField, fmt.Errorf("max-frame-size is %d, the least is %d", o.MaxFrameSize, wire.MinMaxFrameSize))
	}
	c.client, c.peerFrame = o.ContainerID, o.MaxFrameSize
	c.peerIdle = time.Duration(o.IdleTimeOut) * time.Millisecond
	if c.peerIdle > 0 && c.peerIdle < minPeerIdle {
		return c.refuseOpen(wire.CondNotAllowed, fmt.Errorf("idle-time-out is %s, the least is %s", c.peerIdle, minPeerIdle))
	}
	if !known {
		if err := c.authenticate(device.Credential{Anonymous: true, Hint: nameHint(c.client)}); err != nil {
			e := toPeer(err)
			return c.refuseOpen(e.Condition, fmt.Errorf("%s", e.Description))
		}
	}
	session := device.Session{Device: c.principal.ID, Protocol: device.AMQP, Client: c.client}
	if c.leave, err = c.gate.Connect(c.principal, session, c.expel); err != nil {
		e := toPeer(err)
		return c.refuseOpen(e.Condition, fmt.Errorf("%s", e.Description))
	}
	c.log = c.log.With(c.principal.ID.Log(), "client", c.client)
	_, err = c.nc.Write(c.ourOpen())
	return err
}

// nameHint is the container id where it can name a device; clients that make
// one up may use characters no name has.
func nameHint(container string) string {
	if (device.ID{Tenant: device.DefaultTenant, Device: container}).Validate() != nil {
		return ""
	}
	return container
}

func (c *conn) ourOpen() []byte {
	idle := min(c.cfg.IdleTimeout/2, math.MaxUint32*time.Millisecond)
	return wire.AppendFrame(nil, wire.FrameAMQP, 0, &wire.Open{
		ContainerID:  c.cfg.ContainerID,
		MaxFrameSize: c.cfg.MaxFrameSize,
		ChannelMax:   uint16(c.cfg.MaxSessions - 1),
		IdleTimeOut:  max(uint32(idle/time.Millisecond), 1),
		Offered:      []wire.Symbol{"ANONYMOUS-RELAY"},
		Properties:   wire.Map{{Key: wire.Symbol("product"), Value: "tributary"}},
	}, nil)
}

// refuseOpen answers OPEN and CLOSE at once: CLOSE carries the error, and may
// only follow an OPEN (part 2, section 4.3).
func (c *conn) refuseOpen(condition wire.Symbol, err error) error {
	out := wire.AppendFrame(c.ourOpen(), wire.FrameAMQP, 0,
		&wire.Close{Error: &wire.Error{Condition: condition, Description: err.Error()}}, nil)
	_, _ = c.nc.Write(out)
	return fmt.Errorf("%w: %w", errHandshake, err)
}

// authenticate asks the house who the peer is.
func (c *conn) authenticate(cred device.Credential) error {
	ctx, cancel := c.background()
	defer cancel()
	cred.Protocol, cred.RemoteAddr = device.AMQP, c.nc.RemoteAddr().String()
	if cert := doorway.PeerCertificate(c.nc); cert != nil {
		cred.CertificateKey = device.KeyHashOf(cert)
	}
	p, err := c.gate.Authenticate(ctx, cred)
	if err != nil {
		c.metrics.authFailures.Inc()
		return err
	}
	c.principal = p
	return nil
}
