package amqp

import (
	"encoding/binary"
	"time"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
)

// flow takes the peer's credit (part 2, section 6.7).
func (l *outLink) flow(p *wire.Flow) error {
	c := l.s.c
	c.mu.Lock()
	if l.gone {
		c.mu.Unlock()
		return nil
	}
	if p.LinkCredit.Set {
		l.credit = p.DeliveryCount.Or(0) + p.LinkCredit.Value - l.deliveryCount
		if int32(l.credit) < 0 && p.LinkCredit.Value < 1<<31 {
			l.credit = 0
		}
		l.drained = l.credit == 0
	}
	if p.Drain && l.drain == nil {
		l.drain = time.AfterFunc(c.cfg.DrainGrace, l.drainUp)
	}
	if p.Echo && !p.Drain {
		l.sendFlow(false)
	}
	l.endDrain()
	needed := l.credit > 0 && l.supply == nil
	idle := l.retire()
	c.mu.Unlock()
	idle("no credit")
	if needed {
		if err := l.attach(); err != nil {
			l.fail(err)
		}
	}
	return nil
}

// drainUp ends a drain: the credit that found no command is used up (part 2,
// section 6.8).
func (l *outLink) drainUp() {
	c := l.s.c
	c.mu.Lock()
	if l.gone || l.drain == nil {
		c.mu.Unlock()
		return
	}
	if len(l.queue) > 0 && l.credit > 0 || l.current != nil { // it waits for the session's window
		l.drain.Reset(c.cfg.DrainGrace)
		c.mu.Unlock()
		return
	}
	l.deliveryCount += l.credit
	l.credit = 0
	l.endDrain()
	idle := l.retire()
	c.mu.Unlock()
	c.poke()
	idle("drained")
}

// endDrain tells the peer that its drain is done, once there is no credit left.
// The caller holds mu.
func (l *outLink) endDrain() {
	if l.drain == nil || l.credit > 0 || l.current != nil {
		return
	}
	l.drain.Stop()
	l.drain, l.drained = nil, true
	l.sendFlow(true)
}

// retire takes back what the house was asked for, once the peer took its credit
// back: requests still open must not be met. A supply that cannot is given up,
// when the peer has settled everything. The caller holds mu, and calls what is
// answered after giving it up.
func (l *outLink) retire() func(reason string) {
	if !l.drained || l.gone || l.drain != nil || l.credit > 0 || l.current != nil || l.outstanding+len(l.queue) == 0 {
		return func(string) {}
	}
	if from, ok := l.supply.(recaller); ok {
		late := l.queue
		l.queue, l.queued, l.outstanding = nil, 0, 0
		return func(reason string) {
			from.Recall()
			for _, p := range late {
				p.settle(device.Outcome{Kind: device.Released, Reason: reason}, nil)
			}
		}
	}
	if l.unsettled > 0 || l.supply == nil {
		return func(string) {}
	}
	return l.giveUp().Detach
}

// sendFlow tells the link's state. The caller holds mu.
func (l *outLink) sendFlow(drain bool) {
	f := l.s.flowFrame()
	f.Handle, f.DeliveryCount, f.LinkCredit = wire.Some(l.handle), wire.Some(l.deliveryCount), wire.Some(l.credit)
	f.Available, f.Drain = wire.Some(uint32(len(l.queue))), drain
	l.s.c.send(l.s.channel, f, nil)
}

func deliveryTag(id uint32) []byte { return binary.BigEndian.AppendUint32(nil, id) }
