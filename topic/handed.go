package topic

import (
	"slices"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// handed is a message that a member was given in the place of its group, and has
// not settled.
type handed struct {
	m      *member
	sh     *share
	ref    device.Ref
	qos    int
	settle func(device.OutcomeKind)
}

// room is how many messages of a group the member can take now.
func (m *member) room(sh *share) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	sub := m.ofShare(sh)
	switch {
	case sub == nil || !m.begun:
		return 0
	case sub.QoS == 0:
		return shareAhead
	}
	return m.credit
}

// ofShare is the subscription by which the member is in a group; nil for none. The
// lock is held.
func (m *member) ofShare(sh *share) *subscription {
	if m.gone {
		return nil
	}
	return m.subs[sh.filter()]
}

// takeShared takes a message of a group, if the member can.
func (m *member) takeShared(sh *share, ref device.Ref, p *device.Publication, settle func(device.OutcomeKind)) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	sub := m.ofShare(sh)
	if sub == nil || !m.begun {
		return false
	}
	d := device.TopicDelivery{Publication: p, Granted: min(p.QoS, sub.QoS), Retained: sub.RetainAsPublished && p.Retain}
	if sub.ID != 0 {
		d.IDs = []uint32{sub.ID}
	}
	switch {
	case d.Granted == 0:
		if settle != nil {
			settle(device.Accepted)
		}
	case settle == nil || m.credit == 0:
		return false
	default:
		m.credit--
		d.Ref, d.Settle = ref, m.hold(sh, ref, d.Granted, settle)
	}
	m.offer(d)
	return true
}

// hold notes what the member is about to be given, and answers how it settles that.
func (m *member) hold(sh *share, ref device.Ref, qos int, settle func(device.OutcomeKind)) func(device.OutcomeKind) {
	h := &handed{m: m, sh: sh, ref: ref, qos: qos, settle: settle}
	sh.unsettled.Add(1)
	m.handing.Lock()
	defer m.handing.Unlock()
	if m.handed == nil {
		m.handed = map[*handed]struct{}{}
	}
	m.handed[h] = struct{}{}
	return h.done
}

// done is TopicDelivery.Settle.
func (h *handed) done(kind device.OutcomeKind) {
	h.m.handing.Lock()
	_, open := h.m.handed[h]
	delete(h.m.handed, h)
	if open && kind == device.Accepted && h.qos == 2 {
		h.m.taken.note(h.taken(), time.Now().Add(h.m.s.cfg.TakenFor))
	}
	h.m.handing.Unlock()
	if !open {
		return
	}
	if kind == device.Released {
		h.m.s.metrics.handedOn.Inc()
	}
	h.settle(kind)
	if h.sh.unsettled.Add(-1) == 0 {
		h.sh.closeIfLeft()
	}
}

// handOn gives back what a member that has left was given, but for what its
// record r names, if that is kept: those with QoS 2 stay with their session.
func (m *member) handOn(r *device.SessionRecord, kept bool) {
	m.handing.Lock()
	var all []*handed
	for h := range m.handed {
		all = append(all, h)
	}
	m.handing.Unlock()
	for _, h := range all {
		kind := device.Released
		if kept && slices.ContainsFunc(r.State.Outgoing, func(o device.Outgoing) bool { return o.QoS == 2 && o.Ref == h.ref }) {
			kind = device.Accepted
		}
		h.done(kind)
	}
}
