package mqtt

import (
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

// mail is a session's side of its devices' mailboxes. The list of boxes is
// changed by the reading goroutine only, under the lock.
type mail struct {
	boxes  []*mailbox
	sent   map[uint16]*sending // QoS 1 and 2, not finished by the client; nil until the first
	shown  uint64              // messages with QoS 1 and 2 begun so far, to keep their order
	lastID uint16
}

// sending is a PUBLISH of ours whose identifier is in use: with QoS 1 until
// PUBACK, with QoS 2 until PUBCOMP.
type sending struct {
	command *delivery                // nil: a message of a topic
	out     device.Outgoing          // of a message of a topic; ID and QoS of either
	n       uint64                   // its place among those of the session
	settle  func(device.OutcomeKind) // of a message given in the place of a group; else nil
}

// finished tells a message's group, if it has one, that nobody else is to get it.
func (o *sending) finished() {
	if o.settle != nil {
		o.settle(device.Accepted)
	}
}

// keep enters what is about to be sent under its identifier. The lock is held.
func (s *session) keep(o *sending) {
	if s.sent == nil {
		s.sent = map[uint16]*sending{}
	}
	s.shown++
	o.n = s.shown
	s.sent[o.out.ID] = o
}

// mailbox is the session's hold on one device's commands.
type mailbox struct {
	s        *session
	id       device.ID
	att      adapters.Attachment
	subs     []subscription    // never empty while attached
	waiting  []device.Delivery // offered, but the client's window is full
	detached bool
}

// delivery is one command shown to the client.
type delivery struct {
	box     *mailbox
	command string
	attempt int
	stale   bool // the lease was lost: not ours to settle any more
}

// offer is what the house calls: show the command to the device.
func (b *mailbox) offer(d device.Delivery) {
	s := b.s
	defer s.contain(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case b.detached: // Detach gives it back
	case s.full():
		b.waiting = append(b.waiting, d) // one connection, several devices: at most what each requested
	default:
		s.deliver(b, d)
	}
}

// lost is what the house calls when a newer session took the lease: what was
// not settled is the other's now.
func (b *mailbox) lost() {
	s := b.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.sent {
		if o.command != nil && o.command.box == b {
			o.command.stale = true
		}
	}
	if n := len(b.waiting); n > 0 && !b.detached {
		b.waiting = nil
		s.srv.background(func() { b.att.Request(n) }) // never shown: the credit is free again
	}
}

// choose picks the subscription a command arrives on: one that carries its id
// before one that does not, else the oldest.
func (b *mailbox) choose() subscription {
	for _, sub := range b.subs {
		if sub.full {
			return sub
		}
	}
	return b.subs[0]
}

// deliver queues the PUBLISH of a command. The lock is held.
func (s *session) deliver(b *mailbox, d device.Delivery) {
	if s.sealed || s.broken {
		return // Detach gives it back
	}
	sub := b.choose()
	left := time.Until(d.Command.Deadline)
	if !d.Command.Deadline.IsZero() && left <= 0 {
		b.settleLater(d, device.Outcome{Kind: device.Released, Reason: "the deadline passed before it could be written"})
		return
	}
	p := &packet.Publish{QoS: sub.qos, Topic: []byte(sub.topic(&d.Command)), Payload: d.Command.Payload}
	if s.version >= packet.V5 {
		p.Properties = commandProperties(sub.commandFilter, &d.Command, left)
		if sub.id != 0 {
			p.Properties.AddNumber(packet.SubscriptionID, sub.id)
		}
	}
	mark := &delivery{box: b, command: d.Command.ID, attempt: d.Attempt}
	if sub.qos > 0 {
		p.ID, p.Dup = s.nextID(), d.Attempt > 1
	}
	if !s.append(p) {
		b.settleLater(d, device.Outcome{Kind: device.Rejected, Reason: "larger than the packets the client takes"})
		return
	}
	s.srv.metrics.out[sub.qos].Inc()
	if sub.qos == 0 {
		s.after = append(s.after, mark)
		return
	}
	s.keep(&sending{command: mark, out: device.Outgoing{ID: p.ID, QoS: 1}})
}

// commandProperties is what a MQTT 5 client learns beside the payload.
func commandProperties(f commandFilter, c *device.Command, left time.Duration) packet.Properties {
	p := make(packet.Properties, 0, 5)
	if !c.Deadline.IsZero() {
		p.AddNumber(packet.MessageExpiry, uint32(min((left+time.Second-1)/time.Second, 1<<32-1)))
	}
	if c.ContentType != "" {
		p.AddText(packet.ContentType, c.ContentType)
	}
	if !c.OneWay {
		p.AddText(packet.ResponseTopic, f.responseTopic(c))
		p.AddText(packet.CorrelationData, c.ID)
	}
	if c.Name != "" {
		p.AddUser("name", c.Name)
	}
	return p
}

// nextID finds a packet identifier that is not in use; the window is smaller
// than their number.
func (s *session) nextID() uint16 {
	for {
		s.lastID++
		if _, used := s.sent[s.lastID]; s.lastID != 0 && !used {
			return s.lastID
		}
	}
}

// settleLater settles a delivery that was never shown; its credit is free again.
func (b *mailbox) settleLater(d device.Delivery, o device.Outcome) {
	b.s.srv.background(func() {
		b.att.Settle(d.Command.ID, d.Attempt, o, nil)
		b.att.Request(1)
	})
}

// written settles a QoS 0 delivery: there will be no receipt.
func (d *delivery) written() {
	d.settle(device.Outcome{Kind: device.Unconfirmed})
}

// settle ends a delivery and asks for the next. The lock is not held.
func (d *delivery) settle(o device.Outcome) {
	d.box.s.mu.Lock()
	stale, detached := d.stale, d.box.detached
	d.box.s.mu.Unlock()
	if detached {
		return
	}
	if !stale {
		d.box.att.Settle(d.command, d.attempt, o, nil)
	}
	d.box.att.Request(1)
}

// acknowledged handles what a client says about messages in either direction
// (3.4 to 3.7).
func (s *session) acknowledged(p *packet.Ack) error {
	switch p.Kind {
	case packet.PUBREL:
		return s.released(p)
	case packet.PUBREC:
		return s.taken(p)
	}
	o, err := s.takeSent(p)
	switch {
	case err != nil:
		s.srv.metrics.malformed.Inc()
		return err
	case o == nil: // settled already, or never ours: harmless
	case o.command != nil:
		o.command.settle(outcomeOf(p))
	default:
		o.finished()
		s.topics.finished()
	}
	return nil
}

// outcomeOf is what an acknowledgement says of a command.
func outcomeOf(p *packet.Ack) device.Outcome {
	if !p.Reason.Failed() {
		return device.Outcome{Kind: device.Accepted}
	}
	o := device.Outcome{Kind: device.Rejected, Reason: p.Reason.String()}
	if text, ok := p.Properties.Text(packet.ReasonString); ok {
		o.Reason += " " + cut(text)
	}
	return o
}

// takeSent frees the identifier of a message that the client has finished, and
// shows one that waited for its place. It answers nil when there is none.
func (s *session) takeSent(p *packet.Ack) (*sending, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.sent[p.ID]
	if o == nil {
		return nil, nil
	}
	if comp := p.Kind == packet.PUBCOMP; p.Kind != packet.PUBREC && (comp != (o.out.QoS == 2) || comp && !o.out.Released) {
		return nil, closeWith(packet.ProtocolError, p.Kind.String()+" is not what comes next for that message")
	}
	delete(s.sent, p.ID)
	s.serveWaiting()
	return o, nil
}

// serveWaiting shows what waited for the client, commands first. The lock is held.
func (s *session) serveWaiting() {
	for _, box := range s.boxes {
		for len(box.waiting) > 0 && !s.full() && !box.detached {
			next := box.waiting[0]
			box.waiting = box.waiting[1:]
			s.deliver(box, next)
		}
	}
	if s.topics != nil {
		s.topics.serveLater()
	}
}

// taken answers PUBREC: the client has a QoS 2 message, or will not have it
// (4.3.3).
func (s *session) taken(p *packet.Ack) error {
	s.mu.Lock()
	o, t := s.sent[p.ID], s.topics
	known := o != nil && o.command == nil && o.out.QoS == 2
	if known && !p.Reason.Failed() {
		o.out.Released = true
	}
	s.mu.Unlock()
	switch {
	case o != nil && !known:
		s.srv.metrics.malformed.Inc()
		return closeWith(packet.ProtocolError, "PUBREC for a message that was not sent with QoS 2")
	case p.Reason.Failed():
		if o, _ := s.takeSent(p); o != nil {
			o.finished()
			t.finished()
		}
		return nil
	}
	answer := &packet.Ack{Kind: packet.PUBREL, ID: p.ID}
	if !known && s.version >= packet.V5 {
		answer.Reason = packet.PacketIDNotFound
	}
	if !known || !t.kept {
		return s.send(answer)
	}
	t.member.Save(func(err error) {
		if err != nil {
			s.end(closeWith(packet.ServerBusy, "the session cannot be kept now"))
			return
		}
		_ = s.send(answer)
	})
	return nil
}

// finished asks for another message in the place of one the client has finished.
func (t *subscriber) finished() {
	if t.kept {
		t.member.Save(nil)
	}
	t.member.Request(1)
}

// detachAll gives every mailbox back; what is unsettled returns to its queue.
func (s *session) detachAll() {
	s.mu.Lock()
	boxes := s.boxes
	s.boxes = nil
	for _, box := range boxes {
		box.detached, box.waiting = true, nil
	}
	s.mu.Unlock()
	for _, box := range boxes {
		box.att.Detach("disconnected")
	}
}
