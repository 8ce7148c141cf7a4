package mqtt

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

// subscriber is a session's side of topics. A session has one once it
// subscribes to a topic, or when it is to outlive its connection.
type subscriber struct {
	s       *session
	member  adapters.Member
	kept    bool                   // the session outlives its connection
	later   []device.TopicDelivery // offered, and the client can take no more now
	aliases map[string]uint16      // ours, for topics the client was sent
	resumed []device.Outgoing      // offered to an earlier connection, and never sent
	mailbox []device.Subscription  // to commands, of an earlier connection
	tooSlow bool                   // something was dropped for it
}

// maxOutput bounds the bytes for a client that wait to be written before messages with
// QoS 1 and 2 wait where they are kept.
const maxOutput = 256 << 10

// subscriberOf makes the session one that may subscribe to topics. Only the
// reading goroutine calls it.
func (s *session) subscriberOf(ctx context.Context) (*subscriber, error) {
	switch {
	case s.topics != nil:
		return s.topics, nil
	case s.srv.cfg.Topics == nil:
		return nil, device.Errorf(device.Invalid, "filter is not one to subscribe to: use {device}/commands or {device}/commands/#")
	}
	t := &subscriber{s: s}
	member, _, err := s.srv.cfg.Topics.Join(ctx, t.joining())
	if err != nil {
		return nil, err
	}
	t.member = member
	s.mu.Lock()
	s.topics = t
	s.mu.Unlock()
	member.Request(int(s.peerWindow))
	return t, nil
}

func (t *subscriber) joining() adapters.Joining {
	return adapters.Joining{Key: t.s.sessionKey(), Clean: true, Offer: t.offer, Room: t.room, State: t.state, End: t.s.expel}
}

func (s *session) sessionKey() device.SessionKey {
	return device.SessionKey{Principal: s.who.ID, Client: s.client}
}

// offer is what the house calls: show a message to the client.
func (t *subscriber) offer(d device.TopicDelivery) {
	s := t.s
	defer s.contain(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.sealed || s.broken:
	case d.Granted == 0 && s.behind() > s.srv.cfg.MaxBehindBytes:
		t.drop()
	case d.Granted == 0:
		s.writeMessage(d, 0, false)
	case len(t.later) > 0 || s.full():
		t.later = append(t.later, d) // never more than were requested
	default:
		t.show(d)
	}
}

// drop counts a message that is not written, and tells of the first.
func (t *subscriber) drop() {
	s := t.s
	s.srv.metrics.droppedOut.Inc()
	if !t.tooSlow {
		t.tooSlow = true
		s.srv.cfg.Logger.Info("a subscriber is too slow for what it is sent with QoS 0, some of it is dropped", "client", s.client, s.who.ID.Log())
	}
}

// full reports whether the client can take no more with QoS 1 or 2 now.
func (s *session) full() bool { return len(s.sent) >= int(s.peerWindow) || len(s.out) > maxOutput }

// show begins the delivery of a message with QoS 1 or 2. The lock is held.
func (t *subscriber) show(d device.TopicDelivery) {
	s := t.s
	o := &sending{out: device.Outgoing{Ref: d.Ref, QoS: d.Granted, Retained: d.Retained, Shared: d.Settle != nil, IDs: d.IDs}, settle: d.Settle}
	if d.Expired(time.Now()) {
		o.finished()
		t.creditLater()
		return
	}
	o.out.ID = s.nextID()
	s.keep(o)
	if d.Granted == 2 && t.kept {
		// The client may remember this identifier when we do not: what it stands
		// for has to be known before it is used.
		t.member.Save(func(err error) { t.known(d, o, err) })
		return
	}
	t.write(d, o)
}

// known goes on with a message whose identifier is known now.
func (t *subscriber) known(d device.TopicDelivery, o *sending, err error) {
	s := t.s
	defer s.contain(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.endLocked(closeWith(packet.ServerBusy, "the session cannot be kept now"))
		return
	}
	t.write(d, o)
}

// write queues the PUBLISH; one the client cannot take counts as delivered
// (3.1.2.11.4). One with QoS 2 is this session's from then on: no other of its group
// may get it (4.8.2). The lock is held.
func (t *subscriber) write(d device.TopicDelivery, o *sending) {
	written := t.s.writeMessage(d, o.out.ID, false)
	switch {
	case written && d.Granted == 2:
		o.finished()
	case !written && !t.s.sealed && !t.s.broken:
		delete(t.s.sent, o.out.ID)
		o.finished()
		t.creditLater()
	}
}

// creditLater asks for another message in the place of one that needed none.
func (t *subscriber) creditLater() {
	t.s.srv.background(func() { t.member.Request(1) })
}

// serveLater shows what waited, as far as the client can take it. The lock is held.
func (t *subscriber) serveLater() {
	n := 0
	for n < len(t.later) && !t.s.full() && !t.s.sealed {
		t.show(t.later[n])
		n++
	}
	if t.later = t.later[n:]; len(t.later) == 0 {
		t.later = nil
	}
}

// room blocks until little waits to be written.
func (t *subscriber) room(ctx context.Context) error {
	s := t.s
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed()
	})()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.out) > maxQueuedOutput && s.cause == nil && !s.broken && ctx.Err() == nil {
		s.awaitChange()
	}
	if s.cause != nil {
		return s.cause
	}
	return ctx.Err()
}

// state is what the house writes down of the session.
func (t *subscriber) state() device.SessionState {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	st := device.SessionState{LastID: s.lastID}
	open := make([]*sending, 0, len(s.sent))
	for _, o := range s.sent {
		if o.command == nil && (o.settle == nil || o.out.QoS == 2) {
			open = append(open, o)
		}
	}
	slices.SortFunc(open, func(a, b *sending) int { return cmp.Compare(a.n, b.n) })
	for _, o := range open {
		st.Outgoing = append(st.Outgoing, o.out)
	}
	st.Outgoing = append(st.Outgoing, t.resumed...)
	for _, d := range t.later {
		if d.Settle != nil {
			continue // another of its group may get it
		}
		st.Outgoing = append(st.Outgoing, device.Outgoing{Ref: d.Ref, QoS: d.Granted, Retained: d.Retained, IDs: d.IDs})
	}
	for _, in := range s.received {
		st.Incoming = append(st.Incoming, in.Incoming)
	}
	st.Mailbox = t.mailbox
	for _, box := range s.boxes {
		for _, sub := range box.subs {
			st.Mailbox = append(st.Mailbox, device.Subscription{Filter: sub.filter, QoS: int(sub.qos), ID: sub.id})
		}
	}
	return st
}

// leaveTopics gives the session's place up.
func (s *session) leaveTopics() {
	s.mu.Lock()
	t := s.topics
	s.mu.Unlock()
	if t != nil {
		t.member.Leave(s.expiry, s.goodbye)
	}
}
