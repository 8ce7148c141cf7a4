package amqp

import (
	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
)

// mailbox takes the device's lease, and connects the link to its commands.
func (l *outLink) mailbox(id device.ID, via string, generation int) (supply, error) {
	c := l.s.c
	ctx, cancel := c.background()
	defer cancel()
	session := device.Session{Device: id, Via: via, Protocol: device.AMQP, Client: c.client}
	var held adapters.Attachment // set before the first Request, so before the first offer
	held, err := c.gate.Attach(ctx, session,
		func(d device.Delivery) { l.offerCommand(held, generation, d) },
		func() { l.lost(generation) })
	if err != nil {
		return nil, err
	}
	return held, nil
}

func (l *outLink) offerCommand(from adapters.Attachment, generation int, d device.Delivery) {
	c := l.s.c
	settle := func(o device.Outcome, done func(error)) {
		c.metrics.outcomes.WithLabelValues(outcomeLabels[o.Kind]).Inc()
		from.Settle(d.Command.ID, d.Attempt, o, done)
	}
	data, err := fromDelivery(d)
	if err != nil { // no field of a command is without an encoding
		c.log.Error("cannot encode a command", "command", d.Command.ID, "error", err)
		settle(device.Outcome{Kind: device.Rejected, Reason: "it cannot be written as AMQP"}, nil)
		return
	}
	l.offer(generation, parcel{data: data, counter: c.metrics.out, settle: settle})
}

// lost is told that a newer session took the lease: what the peer has not
// settled is not its to settle any more.
func (l *outLink) lost(generation int) {
	c := l.s.c
	c.mu.Lock()
	if l.generation == generation && !l.gone {
		l.queue, l.queued = nil, 0
		l.abort()
		for id, d := range l.s.unsettled {
			if d.link == l {
				delete(l.s.unsettled, id)
				c.send(l.s.channel, &wire.Disposition{Role: wire.RoleSender, First: id, Settled: true, State: wire.Released{}}, nil)
			}
		}
		l.unsettled = 0
	}
	c.mu.Unlock()
	c.poke()
}
