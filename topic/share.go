package topic

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// shareAhead bounds the messages a group's readers on this node ask for at a time.
const shareAhead = 256

// share is this node's part of a group: it asks for as many messages as the
// members here can take, and gives each to the next of them.
type share struct {
	s      *Service
	t      *tenant
	group  device.Group
	keep   time.Duration // how long the group was told to outlive its readers; under the tenant's sharing
	quiet  func()        // ends listening to what is cast; nil for none
	closed atomic.Bool

	members   atomic.Pointer[[]*member] // never changed in place
	next      atomic.Uint64             // whose turn it is
	unsettled atomic.Int64              // messages that members hold

	mu    sync.Mutex // of what follows, and of changing members; taken before a member's
	lines [sources]shareLine
	taken map[device.Ref]device.SessionKey // by whom, before this part was opened: nobody else's
}

// shareLine is what a group's part reads of one source.
type shareLine struct {
	feed  adapters.Feed // nil: nothing
	asked int           // requested, and not come yet
	last  uint64        // the newest that came
	epoch uint64        // of the source's stream
}

// putShared makes the member one of a group, or changes how it is.
func (m *member) putShared(ctx context.Context, g device.Group, sub, old *subscription) error {
	sh, err := m.s.joinShare(ctx, m, g, sub.QoS)
	if err != nil {
		return err
	}
	sub.share = sh
	m.mu.Lock()
	m.subs[sub.Filter] = sub
	m.single.Store(len(m.subs) == 1)
	if old == nil {
		m.shares = append(m.shares[:len(m.shares):len(m.shares)], sh)
		m.s.metrics.subscriptions.Inc()
	}
	m.mu.Unlock()
	sh.ask()
	return nil
}

// joinShare enters a member in the group's part here, which is opened if need be,
// and has the group last as long as the member's session.
func (s *Service) joinShare(ctx context.Context, m *member, g device.Group, qos int) (*share, error) {
	t := m.tenant
	t.sharing.Lock()
	defer t.sharing.Unlock()
	sh := t.shares[g]
	fresh := sh == nil
	if fresh {
		sh = &share{s: s, t: t, group: g}
		sh.members.Store(&[]*member{})
		if err := sh.open(ctx); err != nil {
			sh.close()
			return nil, err
		}
	}
	if err := sh.last(ctx, m, m.in.Expiry, qos); err != nil {
		if fresh {
			sh.close()
		}
		return nil, err
	}
	if fresh {
		t.shares[g] = sh
		s.metrics.groups.Inc()
	}
	sh.add(m)
	return sh, nil
}

// last has the group outlive its readers for as long as a session that may miss
// messages meanwhile. The tenant's sharing is locked.
func (sh *share) last(ctx context.Context, m *member, expiry time.Duration, qos int) error {
	if !m.kept() || qos == 0 || expiry <= sh.keep {
		return nil
	}
	err := sh.s.log.KeepShare(ctx, sh.group, expiry)
	if err == nil {
		sh.keep = expiry
	}
	return err
}

// keepShares has the member's groups last for a time that it learned as it leaves.
func (m *member) keepShares(expiry time.Duration) {
	m.mu.Lock()
	shares := m.shares
	m.mu.Unlock()
	if len(shares) == 0 || expiry <= m.in.Expiry {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.s.ctx), m.s.cfg.Timeout)
	defer cancel()
	m.tenant.sharing.Lock()
	defer m.tenant.sharing.Unlock()
	for _, sh := range shares {
		if err := sh.last(ctx, m, expiry, 1); err != nil {
			m.s.cfg.Logger.Warn("a group of subscribers may end before its session", "client", m.in.Key.Client, m.in.Key.Principal.Log(), "error", err)
		}
	}
}

// open begins to read for the group.
func (sh *share) open(ctx context.Context) error {
	sh.taken = sh.s.index.takenIn(sh.group)
	own, telemetry := reaches(sh.group.Filter)
	for src, wanted := range map[device.Source]bool{device.SourceTopics: own, device.SourceTelemetry: telemetry} {
		if wanted {
			if err := sh.read(ctx, src); err != nil {
				return err
			}
		}
	}
	if !own {
		return nil
	}
	quiet, err := sh.s.log.HearShared(ctx, sh.group, func(p *device.Publication) {
		defer sh.s.contain("a message that was cast to a group")
		sh.give(device.Ref{}, p, nil)
	})
	sh.quiet = quiet
	return err
}

// read begins to read one source, after what came of it before.
func (sh *share) read(ctx context.Context, src device.Source) error {
	sh.mu.Lock()
	after, old := sh.lines[src].last, sh.lines[src].feed
	sh.mu.Unlock()
	if old != nil {
		old.Detach("the group was lost")
	}
	end, err := sh.s.log.End(ctx, src)
	if err != nil {
		return err
	}
	sh.mu.Lock()
	if l := &sh.lines[src]; l.epoch != end.Epoch {
		after, l.last, l.epoch = 0, 0, end.Epoch
	}
	sh.mu.Unlock()
	feed, err := sh.s.log.Share(ctx, src, sh.group, after, sh.brought, func(err error) {
		sh.s.background(func() { sh.readAgain(src, err) })
	})
	if err == nil {
		sh.mu.Lock()
		sh.lines[src].feed, sh.lines[src].asked = feed, 0
		sh.mu.Unlock()
	}
	return err
}

// readAgain makes a group anew that was taken away: its other readers may have
// had more of it than this one knows, and then it comes to somebody again.
func (sh *share) readAgain(src device.Source, err error) {
	for {
		sh.s.cfg.Logger.Warn("a group of subscribers was lost, it is begun again", "tenant", sh.group.Tenant, "subscription", sh.group.Name, "error", err)
		pause(sh.s.ctx, sh.s.cfg.RetryAfter)
		sh.t.sharing.Lock()
		if sh.closed.Load() || sh.s.ctx.Err() != nil {
			sh.t.sharing.Unlock()
			return
		}
		if err = sh.read(sh.s.ctx, src); err == nil && sh.keep > 0 {
			err = sh.s.log.KeepShare(sh.s.ctx, sh.group, sh.keep)
		}
		sh.t.sharing.Unlock()
		if err == nil {
			sh.ask()
			return
		}
	}
}

func (sh *share) add(m *member) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	members := append([]*member{}, *sh.members.Load()...)
	members = append(without(members, m), m)
	sh.members.Store(&members)
}

// remove takes a member out; what it holds is settled in its own time.
func (sh *share) remove(m *member) {
	sh.mu.Lock()
	members := without(append([]*member{}, *sh.members.Load()...), m)
	sh.members.Store(&members)
	sh.mu.Unlock()
	sh.closeIfLeft()
}

// ask requests as many messages as the members can take.
func (sh *share) ask() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	room := 0
	for _, m := range *sh.members.Load() {
		if room += m.room(sh); room >= shareAhead {
			break
		}
	}
	room = min(room, shareAhead)
	for i := range sh.lines {
		if l := &sh.lines[i]; l.feed != nil && room > 0 && 2*l.asked <= room {
			l.feed.Request(room - l.asked)
			l.asked = room
		}
	}
}

// brought gives a message that was read for the group to a member, or back.
func (sh *share) brought(a device.Arrival, settle func(device.OutcomeKind)) {
	defer sh.s.contain("a message of a group")
	sh.mu.Lock()
	l := &sh.lines[a.Source]
	l.asked, l.last = max(l.asked-1, 0), max(l.last, a.Seq)
	a.Epoch = l.epoch
	owner, taken := sh.wasTaken(a.Ref)
	sh.mu.Unlock()
	p, err := a.Open()
	switch {
	case taken:
		sh.s.memberOf(owner).tookAgain(sh, a.Ref)
		settle(device.Accepted)
	case err != nil || a.Tenant != sh.t.name:
		sh.s.metrics.unread.Inc()
		settle(device.Accepted)
	case p.Expired(time.Now()):
		settle(device.Accepted)
	case !sh.give(a.Ref, p, settle):
		sh.s.metrics.handedOn.Inc()
		settle(device.Released)
		return // credit will ask again
	}
	sh.ask()
}

// wasTaken says who took a message before; once, as it is not offered again after
// that. The lock is held.
func (sh *share) wasTaken(ref device.Ref) (owner device.SessionKey, taken bool) {
	for _, r := range [...]device.Ref{ref, {Source: ref.Source, Seq: ref.Seq}} {
		if owner, taken = sh.taken[r]; taken {
			delete(sh.taken, r)
			break
		}
	}
	return owner, taken
}

// give offers a message to the next member that can take it.
func (sh *share) give(ref device.Ref, p *device.Publication, settle func(device.OutcomeKind)) bool {
	members := *sh.members.Load()
	for range members {
		m := members[sh.next.Add(1)%uint64(len(members))]
		if m.takeShared(sh, ref, p, settle) {
			return true
		}
	}
	return false
}

// closeIfLeft ends the part of a group that has no member here, and the group, if
// no session anywhere is left in it.
func (sh *share) closeIfLeft() {
	if sh.idle() {
		sh.s.background(func() {
			sh.t.sharing.Lock()
			defer sh.t.sharing.Unlock()
			if sh.idle() && sh.t.shares[sh.group] == sh {
				delete(sh.t.shares, sh.group)
				sh.s.metrics.groups.Dec()
				sh.close()
				sh.s.endShare(context.WithoutCancel(sh.s.ctx), sh.group)
			}
		})
	}
}

func (sh *share) idle() bool { return len(*sh.members.Load()) == 0 && sh.unsettled.Load() == 0 }

// close ends the reading; what is held is given back.
func (sh *share) close() {
	sh.closed.Store(true)
	if sh.quiet != nil {
		sh.quiet()
	}
	sh.mu.Lock()
	lines := sh.lines
	sh.mu.Unlock()
	for _, l := range lines {
		if l.feed != nil {
			l.feed.Detach("nobody is subscribed")
		}
	}
}

// endShare takes a group away that no session on record is in, nor anybody else.
func (s *Service) endShare(ctx context.Context, g device.Group) {
	if s.index.inGroup(g) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if err := s.log.EndShare(ctx, g); err != nil && ctx.Err() == nil {
		s.cfg.Logger.Debug("a group of subscribers is left to end by itself", "tenant", g.Tenant, "subscription", g.Name, "error", err)
	}
}
