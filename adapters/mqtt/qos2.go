package mqtt

import (
	"context"
	"slices"
	"time"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

// incoming is a QoS 2 message whose identifier its client has not released
// (4.3.3): while it is here, a PUBLISH of that identifier is the same message.
type incoming struct {
	device.Incoming
	deciding bool // the house has not decided about it
	stored   bool // PUBREC was written
}

// heldFactor times the window is how many QoS 2 messages a 3.1.1 client, which
// knows no Receive Maximum, may leave unreleased.
const heldFactor = 16

// repeated handles a QoS 2 PUBLISH whose identifier is not released: it is the
// same message again. The lock is held.
func (s *session) repeated(in *incoming) {
	s.srv.metrics.repeats.Inc()
	if in.stored {
		s.out = packet.AppendAck(s.room(), s.version, packet.PUBREC, in.ID, packet.Success)
		s.kick()
	}
}

// receive remembers a QoS 2 message before anything is done about it, durably
// if the session outlives its connection, and then passes it on. What comes of it
// is said in PUBREC.
func (s *session) receive(p *packet.Publish, r route, a *pending) error {
	t := s.topics
	in := &incoming{Incoming: device.Incoming{ID: p.ID}}
	s.mu.Lock()
	if old := s.received[p.ID]; old != nil { // of an earlier connection, and nobody knows what came of it
		in, a.again = old, true
	}
	if t != nil && t.kept && in.Mark == "" {
		in.Mark, in.After = t.member.Mark(sourceOf(r.kind))
	}
	if s.received == nil {
		s.received = map[uint16]*incoming{}
	}
	s.received[p.ID] = in
	in.deciding = true
	s.deciding++
	a.mark, a.after = in.Mark, in.After
	s.mu.Unlock()
	if t == nil || !t.kept || a.again {
		return s.pass(p, r, a)
	}
	kept := *p
	kept.Topic, kept.Payload, kept.Properties = nil, a.payload, slices.Clone(p.Properties)
	t.member.Save(func(err error) {
		if err == nil {
			err = s.pass(&kept, r, a)
		}
		if err != nil {
			a.finished(err)
		}
	})
	return nil
}

func sourceOf(k kind) device.Source {
	if k == telemetry {
		return device.SourceTelemetry
	}
	return device.SourceTopics
}

// received2 notes what came of a QoS 2 message. One that is refused for good
// frees its identifier; of one whose fate is not known it stays taken. The lock
// is held.
func (s *session) received2(a *pending) {
	in := s.received[a.id]
	if in == nil || !in.deciding {
		return
	}
	in.deciding = false
	s.deciding--
	switch {
	case a.err == nil:
		in.stored = true
	case device.CodeOf(a.err) != device.Unavailable:
		delete(s.received, a.id)
		if s.topics != nil && s.topics.kept {
			s.topics.member.Save(nil)
		}
	}
}

// decisionTime is how long a session that goes on waits for what became of its
// QoS 2 messages: longer than a publish of unknown outcome is repeated.
const decisionTime = 30 * time.Second

// awaitDecisions keeps a session that goes on from being taken up by its next
// connection while the house has not decided about its QoS 2 messages: one that
// is sent again there would be looked for, and not be found yet.
func (s *session) awaitDecisions() {
	s.mu.Lock()
	undecided := s.undecided()
	s.mu.Unlock()
	if !undecided {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), decisionTime)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed()
	})()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.undecided() && ctx.Err() == nil {
		s.awaitChange()
	}
}

// undecided reports whether awaitDecisions has something to wait for. The lock is held.
func (s *session) undecided() bool { return s.topics != nil && s.topics.kept && s.deciding > 0 }

// released ends a QoS 2 message: its identifier may stand for another (4.3.3).
func (s *session) released(p *packet.Ack) error {
	s.mu.Lock()
	in, t := s.received[p.ID], s.topics
	delete(s.received, p.ID)
	s.changed()
	s.mu.Unlock()
	answer := &packet.Ack{Kind: packet.PUBCOMP, ID: p.ID}
	if in == nil && s.version >= packet.V5 {
		answer.Reason = packet.PacketIDNotFound
	}
	if in == nil || t == nil || !t.kept {
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
