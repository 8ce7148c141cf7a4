package mqtt

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

// lasting is what of a session may outlive its connection (4.1).
type lasting struct {
	expiry  time.Duration // how long it does; 0: not at all
	asked   bool          // on MQTT 5, for another time than that
	goodbye bool          // the client disconnected in a way that takes its will with it
	present bool          // it goes on from an earlier connection
}

// joinTopics finds the session of an earlier connection, or begins one: with
// everything it promises durable before CONNACK says so.
func (s *session) joinTopics(ctx context.Context, c *packet.Connect) error {
	will, no := s.willOf(c.Will)
	if no != nil {
		return no
	}
	s.expiry, s.asked = s.expiryOf(c)
	s.srv.takeOver(s)
	topics := s.srv.cfg.Topics
	switch {
	case topics == nil:
		return nil
	case c.CleanStart && s.expiry == 0 && will == nil:
		return refuseSession(topics.Forget(ctx, s.sessionKey()))
	}
	t := &subscriber{s: s, kept: s.expiry > 0}
	in := t.joining()
	in.Clean, in.Expiry, in.Will = c.CleanStart, s.expiry, will
	member, joined, err := topics.Join(ctx, in)
	if err != nil {
		return refuseSession(err)
	}
	t.member = member
	s.mu.Lock()
	defer s.mu.Unlock()
	s.topics, s.present = t, joined.Present
	t.restore(&joined.State)
	return nil
}

// expiryOf is how long the session is to outlive its connection, and whether
// that is not what the client asked for (3.1.2.11.2; 3.1.1: 3.1.2.4).
func (s *session) expiryOf(c *packet.Connect) (time.Duration, bool) {
	most := s.srv.cfg.MaxSessionExpiry
	if s.srv.cfg.Topics == nil {
		most = 0
	}
	if c.Version < packet.V5 {
		if c.CleanStart {
			return 0, false
		}
		return most, false
	}
	n, _ := c.Properties.Number(packet.SessionExpiry)
	return limitExpiry(n, most)
}

func limitExpiry(n uint32, most time.Duration) (_ time.Duration, cut bool) {
	want := time.Duration(n) * time.Second
	if n == 1<<32-1 {
		want = device.Forever
	}
	return min(want, most), want > most
}

// refuseSession turns a session that cannot be begun into a refusal.
func refuseSession(err error) error {
	if err == nil {
		return nil
	}
	r := refuseConnect(err, false)
	if device.CodeOf(err) == device.Busy {
		r.reason = packet.QuotaExceeded
	}
	return r
}

// willOf is the client's will, if it may have it: on one of the tenant's own topics.
func (s *session) willOf(w *packet.Will) (*device.Will, *refusal) {
	if w == nil {
		return nil, nil
	}
	a, err := parseTopic(w.Topic)
	no := &refusal{reason: packet.TopicNameInvalid, v311: packet.V311NotAuthorized, result: "refused"}
	switch {
	case s.srv.cfg.Topics == nil:
		no.reason, no.text = packet.ImplementationSpecific, "wills are not kept here: connect without one"
		return nil, no
	case err != nil || a.kind != own:
		no.text = "a will can only be published on one of the tenant's own topics"
		return nil, no
	}
	err = s.who.UseTopic(w.Topic)
	var p *device.Publication
	if err == nil {
		p, err = s.publication(w.Topic, w.QoS, w.Retain, w.Payload, w.Properties)
	}
	if err != nil {
		no.reason, no.text, no.err = pubackReason(wrapTopic(err)), device.PublicMessage(err), err
		return nil, no
	}
	delay, _ := w.Properties.Number(packet.WillDelay)
	return &device.Will{Publication: *p, Delay: time.Duration(delay) * time.Second}, nil
}

// restore takes over what an earlier connection left. The lock is held.
func (t *subscriber) restore(st *device.SessionState) {
	s := t.s
	s.lastID, t.mailbox = st.LastID, st.Mailbox
	for _, o := range st.Outgoing {
		if o.ID == 0 {
			t.resumed = append(t.resumed, o)
			continue
		}
		s.keep(&sending{out: o})
	}
	for _, in := range st.Incoming {
		if s.received == nil {
			s.received = map[uint16]*incoming{}
		}
		s.received[in.ID] = &incoming{Incoming: in}
	}
}

// goOn does what a session that goes on owes its client, once CONNACK is on its
// way: what was sent and not finished is sent again (4.4), then what was to be.
func (s *session) goOn() error {
	t := s.topics
	if t == nil {
		return nil
	}
	s.mu.Lock()
	s.release() // what follows may take its time
	mailbox := t.mailbox
	t.mailbox = nil
	s.mu.Unlock()
	s.reattach(mailbox)
	s.mu.Lock()
	var again []*sending
	for _, o := range s.sent {
		again = append(again, o)
	}
	unsent := t.resumed
	s.mu.Unlock()
	slices.SortFunc(again, func(a, b *sending) int { return cmp.Compare(a.n, b.n) })
	ctx, cancel := context.WithTimeout(s.srv.ctx, s.srv.cfg.ConnectTimeout)
	defer cancel()
	for _, o := range again {
		if err := t.sendAgain(ctx, o); err != nil {
			return err
		}
	}
	for _, o := range unsent {
		if err := t.sendFirst(ctx, o); err != nil {
			return err
		}
	}
	t.member.Request(max(int(s.peerWindow)-len(again)-len(unsent), 0))
	return nil
}

// sendAgain sends what the client did not finish: PUBREL, or PUBLISH under the
// identifier it had. What is not kept any more it cannot get again.
func (t *subscriber) sendAgain(ctx context.Context, o *sending) error {
	s := t.s
	d, found, err := t.read(ctx, o.out)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.sealed || s.broken: // the next connection gets it
	case found && s.writeMessage(d, o.out.ID, true):
	case o.out.QoS == 2: // the client may have it, and wait for this
		o.out.Released = true
		s.append(&packet.Ack{Kind: packet.PUBREL, ID: o.out.ID})
	default:
		delete(s.sent, o.out.ID)
		t.creditLater()
	}
	return nil
}

// sendFirst sends what was offered to an earlier connection and never sent.
func (t *subscriber) sendFirst(ctx context.Context, o device.Outgoing) error {
	d, found, err := t.read(ctx, o)
	if err != nil {
		return err
	}
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	t.resumed = t.resumed[1:]
	switch {
	case !found:
		t.creditLater()
	case len(t.later) > 0 || s.full():
		t.later = append(t.later, d)
	default:
		t.show(d)
	}
	return nil
}

// read finds a message again; found is false for one that is released, or not
// kept any more.
func (t *subscriber) read(ctx context.Context, o device.Outgoing) (d device.TopicDelivery, found bool, err error) {
	if o.Released {
		return d, false, nil
	}
	p, err := t.member.Read(ctx, o.Ref)
	switch {
	case device.CodeOf(err) == device.NotFound:
		return d, false, nil
	case err != nil:
		return d, false, &closing{reason: packet.ServerBusy, text: "the session's messages cannot be read now", err: err}
	}
	return device.TopicDelivery{Publication: p, Granted: o.QoS, Retained: o.Retained, IDs: o.IDs, Ref: o.Ref}, true, nil
}

// reattach takes up the mailboxes an earlier connection had. One that cannot be
// is not fatal: the device may have been disabled meanwhile.
func (s *session) reattach(mailbox []device.Subscription) {
	for _, sub := range mailbox {
		want, err := parseFilter(sub.Filter)
		if err != nil {
			continue
		}
		box, err := s.subscribeMailbox(packet.Filter{Topic: sub.Filter, QoS: byte(sub.QoS)}, want, sub.ID)
		if err != nil {
			s.srv.cfg.Logger.Info("a session goes on without commands it was subscribed to", "client", s.client, s.who.ID.Log(), "error", err)
			continue
		}
		if box != nil {
			box.att.Request(s.mailWindow())
		}
	}
}

// saved waits until a session that is kept is written down as it is now.
func (s *session) saved() error {
	t := s.topics
	if t == nil || !t.kept {
		return nil
	}
	done := make(chan error, 1)
	t.member.Save(func(err error) { done <- err })
	if err := <-done; err != nil {
		return &closing{reason: packet.ServerBusy, text: "the session cannot be kept now", err: err}
	}
	return nil
}

// disconnected takes a client's DISCONNECT (3.14).
func (s *session) disconnected(p *packet.Disconnect) error {
	if n, ok := p.Properties.Number(packet.SessionExpiry); ok {
		if s.expiry == 0 && n > 0 {
			return closeWith(packet.ProtocolError, "session expiry interval was 0 in CONNECT or CONNACK and cannot be raised")
		}
		s.expiry, _ = limitExpiry(n, s.srv.cfg.MaxSessionExpiry)
	}
	s.goodbye = p.Reason == packet.NormalDisconnection
	return errGone
}
