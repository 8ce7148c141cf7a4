package mqtt

import (
	"time"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

// subscription is one filter a client subscribed to.
type subscription struct {
	commandFilter
	filter string
	qos    byte
	id     uint32 // subscription identifier; 0 for none
}

// subscribe attaches the session to the mailboxes its filters name. Nothing is
// delivered before the SUBACK. CONNACK, if it is held for that, waits a moment only.
func (s *session) subscribe(p *packet.Subscribe) error {
	if s.holds() {
		defer time.AfterFunc(s.srv.cfg.HoldConnack, s.letGo).Stop()
	}
	id, _ := p.Properties.Number(packet.SubscriptionID)
	answer := &packet.Suback{ID: p.ID, Reasons: make([]packet.Reason, len(p.Filters))}
	var opened []*mailbox
	var replays []func()
	for i, f := range p.Filters {
		if s.srv.cfg.Topics == nil && s.version >= packet.V5 && packet.IsShared(f.Topic) {
			return closeWith(packet.SharedSubNotSupported, "shared subscriptions are not available here")
		}
		got, err := s.subscribeOne(f, id)
		if err != nil {
			s.srv.metrics.refuse(err)
			answer.Reasons[i] = subackReason(err, s.version)
			if text := reasonText(device.PublicMessage(err)); s.version >= packet.V5 && s.problems {
				answer.Properties = text // of the last refusal: a SUBACK has one reason string
			}
			continue
		}
		answer.Reasons[i] = got.granted
		if got.box != nil {
			opened = append(opened, got.box)
		}
		if got.replay != nil {
			replays = append(replays, got.replay)
		}
	}
	if err := s.saved(); err != nil {
		return err
	}
	if err := s.sendSuback(answer); err != nil {
		return err
	}
	for _, box := range opened {
		box.att.Request(s.mailWindow())
	}
	if len(replays) > 0 {
		s.srv.background(func() {
			for _, replay := range replays {
				replay()
			}
		})
	}
	return nil
}

// sendSuback leaves the reason string out when the client could not take it.
func (s *session) sendSuback(p *packet.Suback) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold()
	if !s.append(p) && p.Properties != nil {
		p.Properties = nil
		s.append(p)
	}
	return nil
}

// subscribed is what came of one filter.
type subscribed struct {
	granted packet.Reason
	box     *mailbox // when it is new
	replay  func()   // of retained messages; nil for none
}

// subscribeOne adds a filter.
func (s *session) subscribeOne(f packet.Filter, id uint32) (subscribed, error) {
	want, err := parseFilter(f.Topic)
	topic := err != nil || packet.IsShared(f.Topic) // a group may be called "commands"
	switch {
	case topic && s.srv.cfg.Topics != nil:
		return s.subscribeTopic(f, id)
	case err != nil:
		return subscribed{}, err
	}
	box, err := s.subscribeMailbox(f, want, id)
	return subscribed{granted: packet.Reason(min(f.QoS, 1)), box: box}, err
}

// subscribeTopic adds a filter on topics.
func (s *session) subscribeTopic(f packet.Filter, id uint32) (subscribed, error) {
	sub := device.Subscription{
		Filter: f.Topic, QoS: int(f.QoS), NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished, Retained: device.RetainedPolicy(f.RetainHandling), ID: id,
	}
	_, filter, _ := sub.Share() // of 3.1.1 too, where the words mean the same to other brokers
	if err := s.who.UseTopic(filter); err != nil {
		return subscribed{}, err
	}
	ctx := s.srv.patience()
	defer ctx.end()
	t, err := s.subscriberOf(ctx)
	if err != nil {
		return subscribed{}, err
	}
	replay, err := t.member.Subscribe(ctx, sub)
	return subscribed{granted: packet.Reason(f.QoS), replay: replay}, err
}

// subscribeMailbox adds a filter on the commands of a device. It answers the
// mailbox when that is new.
func (s *session) subscribeMailbox(f packet.Filter, want commandFilter, subID uint32) (*mailbox, error) {
	id, via, err := s.who.SpeakFor(want.device)
	if err != nil {
		return nil, err
	}
	sub := subscription{commandFilter: want, filter: f.Topic, qos: min(f.QoS, 1), id: subID}
	if box := s.mailboxOf(id); box != nil {
		return nil, s.addFilter(box, sub)
	}
	if len(s.boxes) >= s.srv.cfg.MaxAttachments {
		return nil, device.Errorf(device.Busy, "connection receives commands for %d devices already", len(s.boxes))
	}
	box := &mailbox{s: s, id: id, subs: []subscription{sub}}
	ctx := s.srv.patience()
	defer ctx.end()
	att, err := s.srv.gate.Attach(ctx, device.Session{
		Device: id, Via: via, Protocol: device.MQTT, Client: s.client,
	}, box.offer, box.lost)
	if err != nil {
		return nil, err
	}
	box.att = att
	s.mu.Lock()
	defer s.mu.Unlock()
	s.boxes = append(s.boxes, box)
	return box, nil
}

// mailboxOf finds the device's mailbox. Only the reading goroutine changes the list.
func (s *session) mailboxOf(id device.ID) *mailbox {
	for _, box := range s.boxes {
		if box.id == id {
			return box
		}
	}
	return nil
}

// maxForms bounds the filters of one mailbox: there are eight ways to write it.
const maxForms = 8

// addFilter adds or replaces a filter of a mailbox (3.8.4).
func (s *session) addFilter(box *mailbox, sub subscription) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range box.subs {
		if box.subs[i].filter == sub.filter {
			box.subs[i] = sub
			return nil
		}
	}
	if len(box.subs) == maxForms {
		return device.Errorf(device.Busy, "device's commands are subscribed to in %d ways already", maxForms)
	}
	box.subs = append(box.subs, sub)
	return nil
}

// unsubscribe withdraws filters; the last of a mailbox detaches it.
func (s *session) unsubscribe(p *packet.Unsubscribe) error {
	answer := &packet.Unsuback{ID: p.ID, Reasons: make([]packet.Reason, len(p.Filters))}
	for i, filter := range p.Filters {
		box, found := s.removeFilter(filter)
		if !found && s.topics != nil {
			found = s.topics.member.Unsubscribe(filter)
		}
		if !found {
			answer.Reasons[i] = packet.NoSubscriptionExisted
		}
		if box != nil {
			box.att.Detach("unsubscribed")
		}
	}
	if err := s.saved(); err != nil {
		return err
	}
	return s.send(answer)
}

// removeFilter answers the mailbox that has no filter left, if so.
func (s *session) removeFilter(filter string) (empty *mailbox, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, box := range s.boxes {
		for j := range box.subs {
			if box.subs[j].filter != filter {
				continue
			}
			box.subs = append(box.subs[:j], box.subs[j+1:]...)
			if len(box.subs) > 0 {
				return nil, true
			}
			box.detached, box.waiting = true, nil
			s.boxes = append(s.boxes[:i], s.boxes[i+1:]...)
			return box, true
		}
	}
	return nil, false
}
