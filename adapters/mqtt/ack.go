package mqtt

import (
	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

// window holds the messages of a connection that the house has not decided
// about: those with QoS 1 and 2 in the order their PUBACKs and PUBRECs must leave.
type window struct {
	queue []*pending // QoS 1 and 2, in order of arrival
	loose int        // QoS 0
	bytes int        // payload of both
	muted bool       // a message that cannot be refused came up: no more acks

	received map[uint16]*incoming // QoS 2, not released by the client; nil until the first
	deciding int                  // of them, those in the queue
	turns    turns
}

// pending is one message on its way to the house. They are pooled, and done is
// made once for each, so that a message costs no allocation here.
type pending struct {
	s       *session
	done    func(error)
	id      uint16 // packet identifier; 0 with QoS 0
	twice   bool   // QoS 2: the answer is PUBREC
	size    int    // of the payload
	answer  bool   // of a command, not telemetry
	settled bool
	err     error

	// Of QoS 2, see incoming.
	mark  string
	after device.Position
	again bool

	// What the trail of a refusal needs.
	device      device.ID
	topic       string
	contentType string
	payload     []byte
	unread      *device.Message // its payload could not be read
}

// looseFactor times the window is how many QoS 0 messages of a connection may
// wait for the house before it stops reading.
const looseFactor = 4

func (s *session) inFlight() int { return len(s.queue) + s.loose }

// reserve takes a place in the window for a PUBLISH. It answers nil and no
// error when the same message is already on its way (a re-sent one): the first
// will be acknowledged, and a second PUBACK could be taken for another message.
func (s *session) reserve(p *packet.Publish) (*pending, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.QoS == 0 {
		for s.loose >= looseFactor*s.srv.cfg.Window {
			if s.cause != nil {
				return nil, s.cause
			}
			s.awaitChange()
		}
		if err := s.awaitRoom(len(p.Payload)); err != nil {
			return nil, err
		}
		s.loose++
		return s.place(p), nil
	}
	if in := s.received[p.ID]; p.QoS == 2 && in != nil && (in.stored || in.deciding) {
		s.repeated(in)
		return nil, nil
	}
	for _, q := range s.queue {
		if q.id != p.ID {
			continue
		}
		if p.Dup || q.twice && p.QoS == 2 {
			s.srv.metrics.repeats.Inc()
			return nil, nil
		}
		return nil, closeWith(packet.ProtocolError, "packet identifier is in use by a message that is not acknowledged yet")
	}
	if open := len(s.queue) + len(s.received) - s.deciding; open >= s.srv.cfg.Window && s.version >= packet.V5 || open >= heldFactor*s.srv.cfg.Window {
		return nil, closeWith(packet.ReceiveMaximumExceeded, "more unacknowledged messages than the receive maximum in CONNACK")
	}
	for len(s.queue) >= s.srv.cfg.Window {
		if s.cause != nil {
			return nil, s.cause
		}
		s.awaitChange()
	}
	if err := s.awaitRoom(len(p.Payload)); err != nil {
		return nil, err
	}
	a := s.place(p)
	s.queue = append(s.queue, a)
	return a, nil
}

// awaitRoom waits until the house has decided about enough of the connection's
// bytes to take more. A message alone always has room. The lock is held.
func (s *session) awaitRoom(size int) error {
	for s.bytes > 0 && s.bytes+size > s.srv.cfg.MaxBufferedBytes {
		if s.cause != nil {
			return s.cause
		}
		s.awaitChange()
	}
	return nil
}

func (s *session) place(p *packet.Publish) *pending {
	a, ok := s.srv.acks.Get().(*pending)
	if !ok {
		a = &pending{}
		a.done = a.finished
	}
	a.s, a.size = s, len(p.Payload)
	if p.QoS > 0 {
		a.id, a.twice = p.ID, p.QoS == 2
	}
	s.bytes += a.size
	return a
}

// finished is what the house calls: the message is stored, or is not.
func (a *pending) finished(err error) {
	if err != nil {
		a.refused(err)
	}
	a.settle(err)
}

// refused leaves the trail of a message the house will never keep. Callbacks
// must not block, so it is left elsewhere.
func (a *pending) refused(err error) {
	s := a.s
	s.srv.metrics.refuse(err)
	if device.CodeOf(err).Retryable() {
		return
	}
	r := refusalOf(a.device, a.topic, a.payload, a.contentType, err)
	r.Message = a.unread
	s.srv.background(func() { s.srv.gate.Refused(r) })
}

// settle records the outcome and writes the PUBACKs that are due.
func (a *pending) settle(err error) {
	s := a.s
	s.mu.Lock()
	defer s.mu.Unlock()
	a.settled, a.err = true, err
	if a.id == 0 {
		s.loose--
		if err != nil {
			s.refuseLoose(err)
		}
		s.recycle(a)
	} else {
		s.writeAcks()
	}
	s.changed()
}

// refuseLoose: QoS 0 has no negative answer but the end of the connection.
// Want of room is no refusal: the message is dropped and counted.
func (s *session) refuseLoose(err error) {
	if device.CodeOf(err).Retryable() {
		s.srv.metrics.dropped.Inc()
		return
	}
	s.endLocked(closeFor(err))
}

// writeAcks queues the PUBACKs at the head of the window that are decided.
func (s *session) writeAcks() {
	n := 0
	for n < len(s.queue) && s.queue[n].settled {
		s.writeAck(s.queue[n])
		s.recycle(s.queue[n])
		n++
	}
	if n > 0 {
		rest := copy(s.queue, s.queue[n:])
		clear(s.queue[rest:])
		s.queue = s.queue[:rest]
		s.kick()
	}
}

func (s *session) writeAck(a *pending) {
	kind := packet.PUBACK
	if a.twice {
		kind = packet.PUBREC
		s.received2(a)
	}
	switch {
	case s.muted || s.sealed || s.broken:
	case a.err == nil, s.version < packet.V5 && a.answer && device.CodeOf(a.err) == device.Precondition:
		s.out = packet.AppendAck(s.room(), s.version, kind, a.id, packet.Success)
	case s.version < packet.V5, device.CodeOf(a.err) == device.Unavailable:
		s.muted = true
		s.endLocked(closeFor(a.err))
	default:
		s.appendReason(&packet.Ack{Kind: kind, ID: a.id, Reason: pubackReason(a.err)}, device.PublicMessage(a.err))
	}
}

func (s *session) recycle(a *pending) {
	s.bytes -= a.size
	*a = pending{done: a.done}
	s.srv.acks.Put(a)
}

func refusalOf(id device.ID, topic string, raw []byte, contentType string, err error) adapters.Refusal {
	return adapters.Refusal{Device: id, Protocol: device.MQTT, Address: topic, Raw: raw, ContentType: contentType, Err: err}
}
