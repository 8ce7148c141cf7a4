package topic

import (
	"context"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// saving is how a member's record is written: one write at a time, and all who
// ask meanwhile share the next.
type saving struct {
	recorded bool // there is a record of this stay
	waiting  []func(error)
	writing  bool
	dirty    bool // something that is not urgent has changed
}

// Save implements adapters.Member.
func (m *member) Save(done func(error)) {
	m.before.Store(nil)
	if !m.kept() {
		if done != nil {
			done(nil)
		}
		return
	}
	m.saves.Lock()
	defer m.saves.Unlock()
	if done == nil {
		m.dirty = true
		return
	}
	m.waiting = append(m.waiting, done)
	m.write()
}

// saveDirty writes a record that has changed in something not urgent.
func (m *member) saveDirty() {
	m.saves.Lock()
	defer m.saves.Unlock()
	if m.dirty {
		m.write()
	}
}

// write begins to write, unless that goes on. The lock of saves is held.
func (m *member) write() {
	if !m.writing {
		m.writing = true
		m.s.background(m.writeAll)
	}
}

func (m *member) writeAll() {
	for {
		m.saves.Lock()
		all := m.waiting
		if len(all) == 0 && !m.dirty {
			m.writing = false
			m.saves.Unlock()
			return
		}
		m.waiting, m.dirty = nil, false
		m.saves.Unlock()
		err := m.writeOnce()
		for _, done := range all {
			done(err)
		}
	}
}

// writeOnce writes the record as it is now. A session whose record somebody
// else has written is not this node's any more.
func (m *member) writeOnce() error {
	m.turn.Lock()
	defer m.turn.Unlock()
	if m.isGone() {
		return device.Errorf(device.Unavailable, "the session has ended")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.s.ctx), m.s.cfg.Timeout)
	defer cancel()
	rev, err := m.s.sessions.Save(ctx, m.record(nil), m.rev)
	if err == nil {
		m.rev = rev
		return nil
	}
	m.s.metrics.saveErrors.Inc()
	if device.CodeOf(err) == device.Conflict {
		m.in.End(device.LeftTakenOver)
	}
	return err
}

func (m *member) isGone() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gone
}

// Leave implements adapters.Member.
func (m *member) Leave(expiry time.Duration, forgetWill bool) {
	m.asking.Lock()
	defer m.asking.Unlock()
	m.turn.Lock() // after a write that is under way
	defer m.turn.Unlock()
	if m.isGone() {
		return
	}
	if forgetWill {
		m.in.Will = nil
	}
	m.keepShares(expiry)
	r := m.record(nil)
	leave(r, time.Now(), expiry)
	subs := m.goAway()
	m.handOn(r, m.farewell(r))
	for _, sub := range subs {
		m.forget(sub)
	}
	close(m.left)
	m.s.vacate(m)
}

// goAway ends what is offered, and answers what was subscribed to.
func (m *member) goAway() map[string]*subscription {
	m.mu.Lock()
	subs := m.subs
	m.gone, m.subs, m.shares = true, nil, nil
	for src := range m.lines {
		m.lines[src] = line{}
	}
	m.more.Broadcast()
	m.mu.Unlock()
	m.cancel()
	m.saves.Lock()
	waiting := m.waiting
	m.waiting, m.dirty = nil, false
	m.saves.Unlock()
	for _, done := range waiting {
		done(device.Errorf(device.Unavailable, "the session has ended"))
	}
	return subs
}

// farewell writes down that the session was left, or takes its record away, and
// publishes its will if it is due. It answers whether the session goes on.
func (m *member) farewell(r *device.SessionRecord) (kept bool) {
	if r.Will != nil && !time.Now().Before(r.WillAt) {
		m.s.publishWill(r.Will)
		r.Will, r.WillAt = nil, time.Time{}
	}
	if !m.recorded {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.s.ctx), m.s.cfg.Timeout)
	defer cancel()
	var err error
	if r.Expiry > 0 {
		_, err = m.s.sessions.Save(ctx, r, m.rev)
	} else {
		err = m.s.sessions.Remove(ctx, r.Key, m.rev)
	}
	if err != nil && device.CodeOf(err) != device.Conflict {
		m.s.metrics.saveErrors.Inc()
		m.s.cfg.Logger.Warn("a session could not be written down at its end", "client", r.Key.Client, r.Key.Principal.Log(), "error", err)
	}
	return err == nil && r.Expiry > 0
}
