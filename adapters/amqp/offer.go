package amqp

import (
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
)

// sending is a delivery partly written.
type sending struct {
	parcel parcel
	id     uint32
	data   []byte // what is left
	begun  bool
}

// pump writes what was offered as far as credit, the session's window and the
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

// next takes the next delivery off the queue, if there is credit for it.
func (l *outLink) next() bool {
	if len(l.queue) == 0 || l.credit == 0 {
		return false
	}
	p := l.queue[0]
	l.queue[0] = parcel{}
	l.queue = l.queue[1:]
	l.queued -= len(p.data)
	l.credit--
	l.deliveryCount++
	l.current = &sending{parcel: p, id: l.s.nextDelivery, data: p.data}
	l.s.nextDelivery++
	if !l.settled {
		l.unsettled++
		l.s.unsettled[l.current.id] = &sent{l, p.settle}
	}
	return true
}

// writePiece writes as much of the current delivery as one frame takes.
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
	cur.parcel.counter.Inc()
	if l.settled {
		s.c.after = append(s.c.after, func() { cur.parcel.settle(device.Outcome{Kind: device.Unconfirmed}, nil) })
	}
}

// abort ends a delivery partly written without finishing it. The caller holds mu.
func (l *outLink) abort() {
	if l.current != nil && l.current.begun {
		l.s.c.send(l.s.channel, &wire.Transfer{Handle: l.handle, Aborted: true}, nil)
		l.s.nextOutgoing++
		l.s.remoteWindow -= min(l.s.remoteWindow, 1)
	}
	l.current = nil
}

// settle takes the peer's outcomes of a range of deliveries (part 2, section 7.6).
// A peer that settles second gets our settlement once the outcome is durable.
func (s *session) settle(p *wire.Disposition) {
	o, final := outcomeOf(p.State)
	if !final && !p.Settled {
		return // received: no outcome yet
	}
	c := s.c
	c.mu.Lock()
	found := takeRange(s.unsettled, p.First, p.Last.Or(p.First))
	for _, d := range found {
		d.link.unsettled--
	}
	c.mu.Unlock()
	for id, d := range found {
		d.settle(o, func(err error) {
			if err == nil && p.Settled {
				return
			}
			s.confirm(id, p, err)
		})
	}
	var idle []func(string)
	c.mu.Lock()
	for _, d := range found {
		idle = append(idle, d.link.retire())
	}
	c.mu.Unlock()
	for _, retire := range idle {
		retire("drained")
	}
}

// confirm settles a delivery of which the peer wants to know that we know.
func (s *session) confirm(id uint32, p *wire.Disposition, err error) {
	if err != nil {
		s.c.log.Debug("outcome of a delivery not recorded", "error", err)
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
