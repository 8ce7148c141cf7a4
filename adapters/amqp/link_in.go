package amqp

import (
	"fmt"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
)

// inLink is a link the peer sends on. Its credit is what the house may hold
// unanswered: a message gives its credit back once its outcome is known, so a
// house that is behind stops its senders.
type inLink struct {
	s      *session
	handle uint32
	name   string
	at     string // the target address; "" for the anonymous terminus
	to     route  // what the address means
	gone   bool   // detached by us; kept until the peer's DETACH
	open   bool   // counted in the metrics

	second bool // the peer settles, after us (part 2, section 6.12)

	deliveryCount uint32
	credit        uint32
	inflight      int       // not answered, or answered and not settled by a peer that settles second
	current       *delivery // begun and not complete
}

// delivery is a message of the peer.
type delivery struct {
	link    *inLink
	id      uint32
	tag     string // of one that takes several frames
	settled bool   // QoS 0: no outcome is told
	second  bool   // the peer settles, after us
	resumed bool   // of a link that is gone: nobody here waits for it
	format  uint32 // message-format; 0 is the only one we read
	data    []byte
	unread  *device.Message // when its payload could not be read
}

// attachSender answers a peer that wants to send.
func (s *session) attachSender(p *wire.Attach) error {
	l := &inLink{s: s, handle: p.Handle, name: p.Name, deliveryCount: p.InitialDeliveryCount.Value, open: true, second: p.RcvSettleMode == wire.RcvSecond}
	target := wire.Target{}
	if p.Target != nil {
		target = *p.Target
	}
	if err := l.resolve(target); err != nil {
		return s.refuseSender(p, target.Address.Value, err)
	}
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.incoming[p.Handle] = l
	c.metrics.links.WithLabelValues("sender").Inc()
	source := p.Source
	if source == nil {
		source = &wire.Source{}
	}
	if err := s.answer(&wire.Attach{
		Name: p.Name, Handle: p.Handle, Role: wire.RoleReceiver, SndSettleMode: p.SndSettleMode, RcvSettleMode: p.RcvSettleMode,
		Source: source, Target: &wire.Target{Address: target.Address, Capabilities: target.Capabilities},
	}); err != nil {
		return err
	}
	l.replenish()
	return nil
}

// resolve finds out whom the target means. No target and no address mean the
// anonymous terminus.
func (l *inLink) resolve(t wire.Target) error {
	switch {
	case t.Coordinator:
		return device.Errorf(device.Invalid, "there are no transactions here")
	case t.Dynamic:
		return device.Errorf(device.Invalid, "only receivers have dynamic nodes here; send to {device}/telemetry")
	case t.Address.Value == "":
		return nil
	}
	l.at = t.Address.Value
	var err error
	c := l.s.c
	if l.to, err = c.resolve(l.at); err != nil || l.to.node != dynamic {
		return err
	}
	ctx, cancel := c.background()
	defer cancel()
	return c.server.exists(ctx, l.to.id.Tenant, l.at)
}

// route is an address as it is meant for this peer.
type route struct {
	address
	id  device.ID
	via string // the gateway, when it speaks for another
}

// resolve finds the node and device an address to send to means for this peer.
func (c *conn) resolve(at string) (to route, err error) {
	if to.address, err = parseAddress(at); err != nil {
		return to, err
	}
	switch to.node {
	case commands:
		return to, c.toCommands(&to)
	case dynamic:
		to.id = c.principal.ID
		return to, nil
	}
	to.id, to.via, err = c.principal.SpeakFor(to.device)
	return to, err
}

// toCommands finds the device an application wants to command.
func (c *conn) toCommands(to *route) (err error) {
	if to.id, err = c.principal.Oversees(to.device); err != nil {
		return device.Errorf(device.Forbidden, "a device may receive from its commands, not send to them")
	}
	if to.device == "" {
		return device.Errorf(device.Invalid, "commands are sent to {device}/commands")
	}
	if c.server.apps == nil {
		return device.Errorf(device.NotFound, "commands are not sent here")
	}
	return nil
}

// refuseSender refuses the link, and leaves a trail.
func (s *session) refuseSender(p *wire.Attach, at string, err error) error {
	s.c.metrics.refused.WithLabelValues(device.CodeOf(err).String()).Inc()
	s.c.gate.Refused(adapters.Refusal{Device: s.c.principal.ID, Protocol: device.AMQP, Address: at, Err: err})
	return s.refuse(p, err)
}

// shut lets go of the link. The caller holds mu.
func (l *inLink) shut() {
	l.gone = true
	l.drop()
	for id, of := range l.s.told {
		if of == l {
			delete(l.s.told, id)
		}
	}
	if l.open {
		l.open = false
		l.s.c.metrics.links.WithLabelValues("sender").Dec()
	}
}

// drop forgets an unfinished message. The caller holds mu.
func (l *inLink) drop() {
	if l.current != nil {
		l.s.c.partial -= len(l.current.data)
		l.current = nil
	}
}

// forget takes the peer's word that it has settled a range of deliveries.
func (s *session) forget(first, last uint32) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for _, l := range takeRange(s.told, first, last) {
		l.inflight--
		l.replenish()
	}
}

// fail detaches the link for a breach. The caller holds mu.
func (l *inLink) fail(condition wire.Symbol, description string) {
	l.s.flushOutcomes()
	l.shut()
	l.s.c.log.Debug("detaching a link", "link", l.name, "condition", condition, "error", description)
	l.s.c.send(l.s.channel, &wire.Detach{Handle: l.handle, Closed: true,
		Error: &wire.Error{Condition: condition, Description: description}}, nil)
}

// replenish grants credit once half of the window is free. The caller holds mu.
func (l *inLink) replenish() {
	window := l.s.c.cfg.Credit
	if free := window - l.inflight - int(l.credit); l.gone || free <= 0 || free*2 < window {
		return
	}
	l.credit = uint32(window - l.inflight)
	l.sendFlow()
}

// sendFlow tells the credit. The caller holds mu.
func (l *inLink) sendFlow() {
	f := l.s.flowFrame()
	f.Handle, f.DeliveryCount, f.LinkCredit = wire.Some(l.handle), wire.Some(l.deliveryCount), wire.Some(l.credit)
	l.s.c.send(l.s.channel, f, nil)
}

// transfer takes one TRANSFER frame: a message, or a piece of one.
func (s *session) transfer(p *wire.Transfer, payload []byte) error {
	c := s.c
	c.mu.Lock()
	s.nextIncoming++
	if s.incomingWindow--; s.incomingWindow <= sessionWindow/2 { // so it never closes: credit and the socket hold a peer back
		s.incomingWindow = sessionWindow
		c.send(s.channel, s.flowFrame(), nil)
	}
	l := s.incoming[p.Handle]
	if l == nil {
		c.mu.Unlock()
		if s.outgoing[p.Handle] != nil {
			return breach(ofSession, wire.CondErrantLink, "a transfer on a link that receives")
		}
		return breach(ofSession, wire.CondUnattachedHandle, fmt.Sprintf("no link is attached with handle %d", p.Handle))
	}
	var whole *delivery
	if !l.gone {
		whole = l.piece(p, payload)
	}
	c.mu.Unlock()
	if whole != nil {
		c.deliver(whole)
	}
	return nil
}

// piece adds a piece to the message under way, and answers it when that was the
// last one (part 2, section 6.14). The caller holds mu.
func (l *inLink) piece(p *wire.Transfer, payload []byte) *delivery {
	if l.current == nil && !l.first(p) {
		return nil
	}
	d, c := l.current, l.s.c
	d.settled = d.settled || p.Settled.Value
	switch {
	case p.DeliveryID.Set && p.DeliveryID.Value != d.id:
		l.fail(wire.CondInvalidField, fmt.Sprintf("delivery %d begins inside delivery %d", p.DeliveryID.Value, d.id))
		return nil
	case d.tag != "" && p.DeliveryTag != nil && string(p.DeliveryTag) != d.tag || p.MessageFormat.Set && p.MessageFormat.Value != d.format:
		l.fail(wire.CondInvalidField, fmt.Sprintf("delivery %d changes its delivery-tag or message-format on the way", d.id))
		return nil
	case p.Aborted, d.resumed && !p.More:
		l.drop()
		l.replenish()
		return nil
	case d.resumed:
		return nil
	case len(d.data)+len(payload) > c.cfg.maxTransferBytes():
		err := device.Errorf(device.TooLarge, "the message is longer than the max-message-size of %d bytes", c.cfg.maxTransferBytes())
		c.metrics.refused.WithLabelValues(device.TooLarge.String()).Inc()
		go c.gate.Refused(adapters.Refusal{Device: c.principal.ID, Protocol: device.AMQP, Address: l.at, Raw: cut(d.data), Err: err})
		l.fail(wire.CondMessageSizeExceeded, err.Message)
		return nil
	}
	d.data = append(d.data, payload...)
	c.partial += len(payload)
	if p.More {
		return nil
	}
	l.current = nil
	c.partial -= len(d.data)
	c.buffered += len(d.data)
	c.inflight++
	l.inflight++
	return d
}

// first begins a message. The caller holds mu.
func (l *inLink) first(p *wire.Transfer) bool {
	switch {
	case !p.DeliveryID.Set || p.DeliveryTag == nil:
		l.fail(wire.CondInvalidField, "the first transfer of a delivery needs delivery-id and delivery-tag")
	case len(p.DeliveryTag) > maxDeliveryTag:
		l.fail(wire.CondInvalidField, fmt.Sprintf("the delivery-tag is %d bytes long, the limit is %d", len(p.DeliveryTag), maxDeliveryTag))
	case p.RcvSettleMode.Value == wire.RcvSecond && !l.second:
		l.fail(wire.CondInvalidField, "the delivery is to be settled second, and the link was attached for first")
	case l.credit == 0:
		l.fail(wire.CondTransferLimitExceeded, "a delivery beyond the link's credit")
	default:
		l.credit--
		l.deliveryCount++
		l.current = &delivery{
			link: l, id: p.DeliveryID.Value, format: p.MessageFormat.Value, resumed: p.Resume,
			second: l.second && p.RcvSettleMode.Or(wire.RcvSecond) == wire.RcvSecond,
		}
		if p.More {
			l.current.tag = string(p.DeliveryTag)
		}
		return true
	}
	return false
}

func cut(raw []byte) []byte { return raw[:min(len(raw), refusedRawBytes)] }
