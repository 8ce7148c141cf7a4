package amqp

import (
	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
)

// deliver hands a whole message to the house. Whatever happens, the delivery is
// answered exactly once.
func (c *conn) deliver(d *delivery) {
	size := len(d.data)
	m, err := c.decode(d)
	if err != nil {
		if d.link.at == "" || d.link.to.node.ofDevices() {
			c.refused(d, &m, err)
		}
		c.answer(d, size, err)
		return
	}
	to, address := d.link.to, d.link.at
	if address == "" {
		address = m.To
		if to, err = c.resolve(address); err != nil {
			c.refused(d, &m, err)
			c.answer(d, size, err)
			return
		}
	}
	done := func(err error) {
		if err != nil && !device.CodeOf(err).Retryable() && to.node.ofDevices() {
			c.refused(d, &m, err)
		}
		c.answer(d, size, err)
	}
	if to.node != dynamic {
		err = typedBody(&m, c.cfg.MaxMessageBytes)
	}
	switch {
	case err != nil:
	case to.node == responses:
		c.metrics.answers.Inc()
		err = c.respond(&m, to, done)
	case to.node == commands:
		c.metrics.commandsIn.Inc()
		err = c.command(&m, to, done)
	case to.node == dynamic:
		err = c.relay(d, address, done)
	default:
		err = c.submit(&m, to, d, done)
	}
	if err != nil {
		done(err)
	}
}

func (c *conn) decode(d *delivery) (wire.Message, error) {
	if d.format != 0 {
		return wire.Message{}, device.Errorf(device.Invalid, "message-format is %d; only 0 is understood here", d.format)
	}
	return decodeMessage(d.data, c.cfg.MaxMessageBytes)
}

func (c *conn) submit(in *wire.Message, to route, d *delivery, done func(error)) error {
	m, err := toTelemetry(in, to, d.settled)
	if err != nil {
		d.unread = m
		return err
	}
	c.metrics.in[m.QoS].Inc()
	if len(m.Measurements) == 0 {
		c.metrics.unread.Inc()
	}
	return c.gate.Submit(m, done)
}

func (c *conn) respond(in *wire.Message, to route, done func(error)) error {
	r, err := toResponse(in, to)
	if err != nil {
		return err
	}
	c.gate.Respond(r, done)
	return nil
}

// answer settles a delivery: its outcome goes to the peer, its credit and its
// bytes are free again. The house calls it from any goroutine.
func (c *conn) answer(d *delivery, size int, err error) {
	if err != nil {
		c.metrics.refuse(err)
		if d.settled {
			c.metrics.dropped.Inc()
		}
		if device.CodeOf(err) == device.Internal {
			c.log.Error("message not kept", "error", err)
		}
	}
	l := d.link
	c.mu.Lock()
	c.inflight--
	c.buffered -= size
	second := d.second && !d.settled && !l.gone
	if second {
		l.s.told[d.id] = l
	} else {
		l.inflight--
	}
	if !d.settled && !l.gone {
		o := outcome{delivery: d.id, second: second}
		if err != nil {
			o.rejected = toPeer(err)
		}
		l.s.outcomes = append(l.s.outcomes, o)
	}
	l.replenish()
	c.mu.Unlock()
	c.changed.Broadcast()
	c.poke()
}

// refused leaves a trail of a message we do not keep.
func (c *conn) refused(d *delivery, m *wire.Message, err error) {
	id, at := d.link.to.id, d.link.at
	if at == "" {
		id, at = c.principal.ID, m.To
	}
	raw := m.Body // the payload, as on every door
	if raw == nil {
		raw = d.data // there is none to be found: all that came
	}
	c.gate.Refused(adapters.Refusal{
		Device: id, Protocol: device.AMQP, Address: at, Raw: cut(raw), ContentType: string(m.ContentType), Err: err,
		Message: d.unread,
	})
}
