package amqp

import (
	"encoding/binary"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
)

// outLink is a link the peer receives commands on.
type outLink struct {
	s       *session
	handle  uint32
	name    string
	device  device.ID
	via     string // the gateway, when it receives for another
	settled bool   // the peer wants them settled: no outcome comes back
	gone    bool   // detached by us; kept until the peer's DETACH
	open    bool   // counted in the metrics

	attachment  adapters.Attachment // nil while the peer, drained, gives no credit
	generation  int                 // of the attachment: callbacks of an older one are stale
	outstanding int                 // asked of the house and not yet offered

	deliveryCount uint32
	credit        uint32
	queue         []device.Delivery // offered and not begun
	current       *sending
	unsettled     int
	drain         *time.Timer // runs while the peer drains
	drained       bool        // credit was taken back since it was last given
}

// sent is a command the peer has and has not settled.
type sent struct {
	link       *outLink
	attachment adapters.Attachment
	command    string
	attempt    int
}

// attachReceiver answers a peer that wants commands: it takes the device's lease.
func (s *session) attachReceiver(p *wire.Attach) error {
	source := wire.Source{}
	if p.Source != nil {
		source = *p.Source
	}
	id, via, err := s.c.commandsOf(source)
	l := &outLink{
		s: s, handle: p.Handle, name: p.Name, device: id, via: via,
		settled: p.SndSettleMode == wire.SndSettled, open: true,
	}
	if err == nil {
		err = l.attach()
	}
	if err != nil {
		s.c.metrics.refused.WithLabelValues(device.CodeOf(err).String()).Inc()
		return s.refuse(p, err)
	}
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.outgoing[p.Handle] = l
	c.metrics.links.WithLabelValues("receiver").Inc()
	target := p.Target
	if target == nil {
		target = &wire.Target{}
	}
	return s.answer(&wire.Attach{
		Name: p.Name, Handle: p.Handle, Role: wire.RoleSender,
		SndSettleMode: p.SndSettleMode, RcvSettleMode: p.RcvSettleMode,
		Source: &wire.Source{
			Address: source.Address, Capabilities: source.Capabilities, DefaultOutcome: wire.Released{},
			Outcomes: []wire.Symbol{"amqp:accepted:list", "amqp:rejected:list", "amqp:released:list", "amqp:modified:list"},
		},
		Target: target, InitialDeliveryCount: wire.Some[uint32](0),
	})
}

// commandsOf finds the device whose commands a source means, and the gateway
// that wants them for it.
func (c *conn) commandsOf(source wire.Source) (id device.ID, via string, err error) {
	if source.Dynamic {
		return id, "", device.Errorf(device.Invalid, "there are no dynamic nodes here; receive from {device}/commands")
	}
	from, err := parseAddress(source.Address.Value)
	if err != nil {
		return id, "", err
	}
	if from.node != commands {
		return id, "", device.Errorf(device.Forbidden, "a device receives from its commands only")
	}
	return c.principal.SpeakFor(from.device)
}

// attach connects the link to the device's mailbox. Only the reader calls it,
// and without mu.
func (l *outLink) attach() error {
	c := l.s.c
	c.mu.Lock()
	l.generation++
	generation := l.generation
	c.mu.Unlock()
	ctx, cancel := c.background()
	defer cancel()
	session := device.Session{Device: l.device, Via: l.via, Protocol: device.AMQP, Client: c.client}
	a, err := c.gate.Attach(ctx, session,
		func(d device.Delivery) { l.offer(generation, d) },
		func() { l.lost(generation) })
	if err != nil {
		return err
	}
	c.mu.Lock()
	l.attachment, l.outstanding = a, 0
	c.mu.Unlock()
	return nil
}

// offer takes a command from the house. It was asked for, so it is kept until
// there is credit: see the package comment.
func (l *outLink) offer(generation int, d device.Delivery) {
	c := l.s.c
	c.mu.Lock()
	if l.generation == generation && !l.gone {
		l.outstanding--
		l.queue = append(l.queue, d)
	}
	c.mu.Unlock()
	c.poke()
}

// lost is told that a newer session took the lease: what the peer has not
// settled is not its to settle any more.
func (l *outLink) lost(generation int) {
	c := l.s.c
	c.mu.Lock()
	if l.generation == generation && !l.gone {
		l.queue = nil
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

// shut lets go of the link and answers what to detach. The caller holds mu.
func (l *outLink) shut() adapters.Attachment {
	if l.open {
		l.open = false
		l.s.c.metrics.links.WithLabelValues("receiver").Dec()
	}
	l.gone = true
	for id, d := range l.s.unsettled {
		if d.link == l {
			delete(l.s.unsettled, id)
		}
	}
	return l.giveUp()
}

// giveUp forgets the attachment, all it offered and all it was asked for. The
// caller holds mu, and detaches what is answered after giving it up.
func (l *outLink) giveUp() adapters.Attachment {
	a := l.attachment
	l.attachment, l.outstanding, l.queue, l.current, l.unsettled = nil, 0, nil, nil, 0
	l.generation++
	if l.drain != nil {
		l.drain.Stop()
		l.drain = nil
	}
	return a
}

// want is how many commands to ask for now. The caller holds mu and asks.
func (l *outLink) want() int {
	if l.gone || l.attachment == nil {
		return 0
	}
	room := min(int64(l.credit), int64(l.s.c.cfg.CommandWindow-l.unsettled))
	n := int(room) - len(l.queue) - l.outstanding
	if n <= 0 {
		return 0
	}
	l.outstanding += n
	return n
}

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
	needed := l.credit > 0 && l.attachment == nil
	idle := l.retire()
	c.mu.Unlock()
	if idle != nil {
		idle.Detach("no credit")
	}
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
	if idle != nil {
		idle.Detach("drained")
	}
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

// retire gives the attachment up when the peer took its credit back and has
// settled everything: requests the house still has open must not be met. The
// caller holds mu, and detaches what is answered after giving it up.
func (l *outLink) retire() adapters.Attachment {
	if !l.drained || l.gone || l.drain != nil || l.credit > 0 || l.unsettled > 0 || l.current != nil || l.outstanding+len(l.queue) == 0 {
		return nil
	}
	return l.giveUp()
}

// fail detaches the link for an error of ours. It is called without mu.
func (l *outLink) fail(err error) {
	c := l.s.c
	c.mu.Lock()
	held := l.detach(toPeer(err))
	c.mu.Unlock()
	c.poke()
	giveBack([]adapters.Attachment{held}, "link failed")
}

// detach ends the link from our side, and answers what to detach from the
// house. The caller holds mu.
func (l *outLink) detach(why *wire.Error) adapters.Attachment {
	held := l.shut()
	l.s.c.send(l.s.channel, &wire.Detach{Handle: l.handle, Closed: true, Error: why}, nil)
	return held
}

// sendFlow tells the link's state. The caller holds mu.
func (l *outLink) sendFlow(drain bool) {
	f := l.s.flowFrame()
	f.Handle, f.DeliveryCount, f.LinkCredit = wire.Some(l.handle), wire.Some(l.deliveryCount), wire.Some(l.credit)
	f.Available, f.Drain = wire.Some(uint32(len(l.queue))), drain
	l.s.c.send(l.s.channel, f, nil)
}

func deliveryTag(id uint32) []byte { return binary.BigEndian.AppendUint32(nil, id) }
