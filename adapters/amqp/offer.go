package amqp

import (
	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
)

// sending is a command partly written.
type sending struct {
	delivery device.Delivery
	id       uint32
	data     []byte // what is left
	begun    bool
}

// pump writes offered commands as far as credit, the session's window and the
// socket allow. The caller holds mu.
func (l *outLink) pump() {
	s := l.s
	for !l.gone && s.remoteWindow > 0 && len(s.c.out) < maxOutBytes {
		if l.current == nil && !l.next() {
			break
		}
		l.writePiece()
	}
	l.endDrain()
}

// next takes the next command off the queue, if there is credit for it.
func (l *outLink) next() bool {
	if len(l.queue) == 0 || l.credit == 0 {
		return false
	}
	d := l.queue[0]
	l.queue = l.queue[1:]
	data, err := fromDelivery(d)
	if err != nil { // no field of a command is without an encoding
		l.s.c.log.Error("cannot encode a command", "command", d.Command.ID, "error", err)
		a := l.attachment
		go a.Settle(d.Command.ID, d.Attempt, device.Outcome{Kind: device.Rejected, Reason: "it cannot be written as AMQP"}, nil)
		return len(l.queue) > 0 && l.next()
	}
	l.credit--
	l.deliveryCount++
	l.current = &sending{delivery: d, id: l.s.nextDelivery, data: data}
	l.s.nextDelivery++
	if !l.settled {
		l.unsettled++
		l.s.unsettled[l.current.id] = &sent{l, l.attachment, d.Command.ID, d.Attempt}
	}
	return true
}

// writePiece writes as much of the current command as one frame takes.
func (l *outLink) writePiece() {
	s, cur := l.s, l.current
	p := &wire.Transfer{Handle: l.handle}
	if !cur.begun {
		p.DeliveryID, p.DeliveryTag = wire.Some(cur.id), deliveryTag(cur.id)
		p.MessageFormat, p.Settled = wire.Some[uint32](0), wire.Some(l.settled)
	}
	const head = 64 // more than the frame's head and a transfer's fields take
	room := int(min(s.c.peerFrame, 1<<20)) - head
	piece := cur.data[:min(len(cur.data), room)]
	cur.data = cur.data[len(piece):]
	cur.begun, p.More = true, len(cur.data) > 0
	s.c.send(s.channel, p, piece)
	s.nextOutgoing++
	s.remoteWindow--
	if p.More {
		return
	}
	l.current = nil
	s.c.metrics.out.Inc()
	if l.settled {
		a, d := l.attachment, cur.delivery
		s.c.after = append(s.c.after, func() { s.c.settleCommand(a, d.Command.ID, d.Attempt, device.Outcome{Kind: device.Unconfirmed}, nil) })
	}
}

// abort ends a command partly written without finishing it. The caller holds mu.
func (l *outLink) abort() {
	if l.current != nil && l.current.begun {
		l.s.c.send(l.s.channel, &wire.Transfer{Handle: l.handle, Aborted: true}, nil)
		l.s.nextOutgoing++
		l.s.remoteWindow -= min(l.s.remoteWindow, 1)
	}
	l.current = nil
}

// settle takes the peer's outcomes of a range of commands (part 2, section 7.6).
// A peer that settles second gets our settlement once the outcome is durable.
func (s *session) settle(p *wire.Disposition) {
	o, final := outcomeOf(p.State)
	if !final && !p.Settled {
		return // received: no outcome yet
	}
	c := s.c
	var idle []adapters.Attachment
	c.mu.Lock()
	found := takeRange(s.unsettled, p.First, p.Last.Or(p.First))
	for _, d := range found {
		d.link.unsettled--
	}
	c.mu.Unlock()
	for id, d := range found {
		c.settleCommand(d.attachment, d.command, d.attempt, o, func(err error) {
			if err == nil && p.Settled {
				return
			}
			s.confirm(id, p, err)
		})
	}
	c.mu.Lock()
	for _, d := range found {
		if a := d.link.retire(); a != nil {
			idle = append(idle, a)
		}
	}
	c.mu.Unlock()
	giveBack(idle, "drained")
}

// confirm settles a command of which the peer wants to know that we know.
func (s *session) confirm(id uint32, p *wire.Disposition, err error) {
	if err != nil {
		s.c.log.Debug("outcome of a command not recorded", "error", err)
	}
	if p.Settled {
		return
	}
	s.c.mu.Lock()
	if !s.ended {
		s.c.send(s.channel, &wire.Disposition{Role: wire.RoleSender, First: id, Settled: true, State: p.State}, nil)
	}
	s.c.mu.Unlock()
	s.c.poke()
}

// takeRange removes what has a delivery-id of a range, which a hostile peer may
// make as long as it likes. The caller holds mu.
func takeRange[V any](all map[uint32]V, first, last uint32) map[uint32]V {
	found := map[uint32]V{}
	span := last - first // delivery-ids wrap around
	if int32(span) < 0 {
		return nil
	}
	if span < uint32(len(all)) {
		for id := first; id-first <= span; id++ {
			if v, there := all[id]; there {
				found[id] = v
			}
		}
	} else {
		for id, v := range all {
			if id-first <= span {
				found[id] = v
			}
		}
	}
	for id := range found {
		delete(all, id)
	}
	return found
}

func (c *conn) settleCommand(a adapters.Attachment, id string, attempt int, o device.Outcome, done func(error)) {
	c.metrics.outcomes.WithLabelValues(outcomeLabels[o.Kind]).Inc()
	a.Settle(id, attempt, o, done)
}
