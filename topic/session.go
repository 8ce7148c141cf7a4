package topic

import (
	"context"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// kept reports whether the session is to outlive its connection.
func (m *member) kept() bool { return m.in.Expiry > 0 }

// Join implements adapters.Topics.
func (s *Service) Join(ctx context.Context, j adapters.Joining) (adapters.Member, adapters.Joined, error) {
	m := s.newMember(j)
	if err := s.enter(ctx, m); err != nil {
		return nil, adapters.Joined{}, err
	}
	joined, err := m.begin(ctx)
	if err != nil {
		m.Leave(0, true)
		return nil, adapters.Joined{}, err
	}
	return m, joined, nil
}

// enter gives m its key's place on this node, and waits until the session that
// had it is over.
func (s *Service) enter(ctx context.Context, m *member) error {
	s.mu.Lock()
	old := s.members[m.in.Key]
	s.members[m.in.Key] = m
	s.mu.Unlock()
	err := old.expel(ctx)
	if err != nil {
		close(m.left)
		s.vacate(m)
	}
	return err
}

// expel ends a member because a newer connection of its client is here, and
// waits until it is over. Nil is nobody.
func (m *member) expel(ctx context.Context) error {
	if m == nil {
		return nil
	}
	m.in.End(device.LeftTakenOver)
	select {
	case <-m.left:
		return nil
	case <-ctx.Done():
		return device.Wrap(device.Unavailable, "the session's connection before this one does not end", ctx.Err())
	}
}

func (s *Service) memberOf(key device.SessionKey) *member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members[key]
}

// vacate gives up the member's place, if it still has it.
func (s *Service) vacate(m *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.members[m.in.Key] == m {
		delete(s.members, m.in.Key)
	}
}

// begin finds what is known of the session, and writes down that it is here.
func (m *member) begin(ctx context.Context) (adapters.Joined, error) {
	if !m.kept() && m.in.Will == nil && m.in.Clean && !m.s.index.has(m.in.Key) {
		return adapters.Joined{}, nil
	}
	for try := 0; ; try++ {
		joined, err := m.beginOnce(ctx)
		if device.CodeOf(err) != device.Conflict || try == maxConflicts {
			return joined, err
		}
	}
}

// maxConflicts bounds how often a record is read again because somebody else
// has written it.
const maxConflicts = 8

func (m *member) beginOnce(ctx context.Context) (adapters.Joined, error) {
	old, rev, err := m.s.released(ctx, m.in.Key)
	if err != nil {
		return adapters.Joined{}, err
	}
	var joined adapters.Joined
	if old != nil {
		now := time.Now()
		joined.Present = !m.in.Clean && !ended(old, now)
		if !joined.Present || !now.Before(old.WillAt) {
			m.s.publishWill(old.Will)
		}
		if !joined.Present {
			old = nil
		}
	}
	m.rev = rev
	if old != nil {
		if err := m.resume(ctx, old); err != nil {
			return adapters.Joined{}, err
		}
		joined.State, joined.Subscriptions = old.State, old.Subscriptions
		m.took(old.Taken)
		m.before.Store(&old.State)
	}
	switch {
	case m.kept() || m.in.Will != nil:
		first := m.record(old)
		if m.rev, err = m.s.sessions.Save(ctx, first, rev); err != nil {
			return adapters.Joined{}, err
		}
		m.recorded = true
		m.s.index.note(m.in.Key, first.Node)
	case rev != 0:
		if err := m.s.sessions.Remove(ctx, m.in.Key, rev); err != nil {
			return adapters.Joined{}, err
		}
	}
	return joined, nil
}

// released reads a session's record once no node holds it: one that does is
// asked to let go. What a dead node held counts as left now.
func (s *Service) released(ctx context.Context, key device.SessionKey) (*device.SessionRecord, uint64, error) {
	for try := 0; ; try++ {
		r, rev, err := s.sessions.Load(ctx, key)
		if err != nil || r == nil || r.Node == "" {
			return r, rev, err
		}
		ours, err := s.sessions.Incarnation()
		if err != nil {
			return nil, 0, err
		}
		if r.Node != ours && s.sessions.Lives(r.Node) && try < 2 {
			ask, cancel := context.WithTimeout(ctx, s.cfg.AskTimeout)
			err := s.sessions.Ask(ask, r.Node, key)
			cancel()
			if err != nil {
				s.cfg.Logger.Warn("a session is taken from a node that does not give it up", "client", key.Client, key.Principal.Log(), "error", err)
			}
			continue
		}
		leave(r, time.Now(), r.Expiry)
		return r, rev, nil
	}
}

// asked ends a session here, because another node wants it.
func (s *Service) asked(key device.SessionKey) {
	_ = s.memberOf(key).expel(s.ctx)
}

// Forget implements adapters.Topics.
func (s *Service) Forget(ctx context.Context, key device.SessionKey) error {
	if err := s.memberOf(key).expel(ctx); err != nil || !s.index.has(key) {
		return err
	}
	for try := 0; ; try++ {
		r, rev, err := s.released(ctx, key)
		if err != nil || rev == 0 || r == nil {
			return err
		}
		s.publishWill(r.Will)
		err = s.sessions.Remove(ctx, key, rev)
		if device.CodeOf(err) != device.Conflict || try == maxConflicts {
			return err
		}
	}
}

// leave notes in a record that the connection was lost, and when its will is due.
func leave(r *device.SessionRecord, now time.Time, expiry time.Duration) {
	r.Node, r.Left, r.Expiry = "", now.UTC(), expiry
	if r.Will != nil {
		r.WillAt = r.Left.Add(min(r.Will.Delay, expiry, 100*365*24*time.Hour))
	}
}

// ended reports whether a session that was left is over.
func ended(r *device.SessionRecord, now time.Time) bool {
	return r.Node == "" && r.Expiry != device.Forever && !now.Before(r.Left.Add(r.Expiry))
}

// resume puts the member where its record says it was: behind, in each source
// it wants something kept of.
func (m *member) resume(ctx context.Context, r *device.SessionRecord) error {
	ends, err := m.s.endsFor(ctx, r)
	if err != nil {
		return err
	}
	forgetLost(r, ends)
	for src, at := range map[device.Source]device.Position{device.SourceTopics: r.Topics, device.SourceTelemetry: r.Telemetry} {
		end := ends[src]
		l := &m.lines[src]
		switch {
		case at == (device.Position{}): // it wanted nothing of it
			l.cursor = end.Seq
		case at.Epoch != end.Epoch: // the stream was made anew: all of it is news
			l.behind = true
		default:
			l.cursor, l.behind = min(at.Seq, end.Seq), true
		}
	}
	for _, sub := range r.Subscriptions {
		m.mu.Lock()
		old := m.subs[sub.Filter] // of a try before this one
		m.mu.Unlock()
		if err := m.put(ctx, &subscription{Subscription: sub, member: m}, old, false); err != nil {
			return err
		}
	}
	return nil
}

// record is the session as it is to be written down now; what it was before it
// was resumed is of, as its state is the door's only once it has come in.
func (m *member) record(of *device.SessionRecord) *device.SessionRecord {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &device.SessionRecord{Key: m.in.Key, Expiry: m.in.Expiry, Will: m.in.Will}
	r.Node, _ = m.s.sessions.Incarnation()
	if of != nil {
		r.State, r.Topics, r.Telemetry, r.Subscriptions, r.Taken = of.State, of.Topics, of.Telemetry, of.Subscriptions, of.Taken
		return r
	}
	if !m.kept() || m.subs == nil {
		return r
	}
	for _, sub := range m.subs {
		r.Subscriptions = append(r.Subscriptions, sub.Subscription)
	}
	switch before := m.before.Load(); {
	case before != nil:
		r.State = *before
	case m.recorded:
		r.State = m.in.State()
	}
	r.Taken = m.takenNow(r.State.Outgoing)
	r.Topics, r.Telemetry = m.place(device.SourceTopics), m.place(device.SourceTelemetry)
	return r
}

// place is up to where everything of a source was offered; zero when the
// session wants nothing of it. The lock is held.
func (m *member) place(src device.Source) device.Position {
	f, l := m.s.feeds[src], &m.lines[src]
	wanted := false
	for filter, sub := range m.subs {
		own, telemetry := reaches(filter)
		wanted = wanted || sub.QoS > 0 && (src == device.SourceTopics && own || src == device.SourceTelemetry && telemetry)
	}
	if !wanted {
		return device.Position{}
	}
	at := device.Position{Epoch: f.epoch.Load(), Seq: l.cursor}
	if !l.behind && len(l.queue) == 0 {
		at.Seq = max(at.Seq, f.pos.Load())
	}
	return at
}
