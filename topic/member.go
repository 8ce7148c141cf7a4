package topic

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// member is a session that is in.
type member struct {
	s      *Service
	in     adapters.Joining
	tenant *tenant
	ctx    context.Context // ends when it leaves
	cancel context.CancelFunc
	single atomic.Bool   // it has one subscription
	left   chan struct{} // closed when it has left and is written down

	turn sync.Mutex // of writing its record; taken before mu
	rev  uint64     // of the record; 0: there is none

	saves sync.Mutex
	saving

	handing sync.Mutex // no lock is taken under it
	handed  map[*handed]struct{}
	taken   takenLately

	asking  sync.Mutex // Subscribe, Unsubscribe and Leave, one at a time
	mu      sync.Mutex // its feed's lock, if both are needed, is taken first
	more    sync.Cond  // credit, or the end
	gone    bool
	begun   bool // Request was called
	credit  int
	subs    map[string]*subscription
	shares  []*share // of subs; never changed in place
	lines   [sources]line
	reading bool                                // somebody reads for it alone
	before  atomic.Pointer[device.SessionState] // of the door in an earlier stay, until the door has it: its first Save or Request
}

// line is a member's place in one source.
type line struct {
	cursor  uint64    // everything up to it was offered, or is not for this member
	queue   []waiting // what the feed brought since, and there was no credit for
	bytes   int       // of the queue
	behind  bool      // something after cursor is not in the queue
	joining bool      // it is read for alone to where the queue begins
}

type waiting struct {
	seq uint64
	d   device.TopicDelivery
}

func (s *Service) newMember(j adapters.Joining) *member {
	m := &member{s: s, in: j, tenant: s.tenantOf(j.Key.Principal.Tenant), subs: map[string]*subscription{}, left: make(chan struct{})}
	m.more.L = &m.mu
	m.ctx, m.cancel = context.WithCancel(s.ctx)
	return m
}

// Subscribe implements adapters.Member.
func (m *member) Subscribe(ctx context.Context, want device.Subscription) (replay func(), err error) {
	if err := want.Validate(); err != nil {
		return nil, err
	}
	_, _, shared := want.Share()
	if shared && want.NoLocal {
		return nil, device.Errorf(device.Invalid, "a shared subscription cannot leave out what its own session publishes")
	}
	m.asking.Lock()
	defer m.asking.Unlock()
	m.mu.Lock()
	old, n, gone := m.subs[want.Filter], len(m.subs), m.gone
	m.mu.Unlock()
	if gone {
		return nil, device.Errorf(device.Unavailable, "the session has ended")
	}
	if old == nil && n >= m.s.cfg.MaxSubscriptions {
		return nil, device.Errorf(device.Busy, "session has %d subscriptions already", n)
	}
	sub := &subscription{Subscription: want, member: m}
	if shared || want.Retained == device.RetainedNever || want.Retained == device.RetainedIfNew && old != nil {
		return func() {}, m.put(ctx, sub, old, true)
	}
	return m.putAndReplay(ctx, sub, old)
}

// put enters a subscription in the tree, in the place of old, and makes what
// feeds it run. A fresh one takes nothing that is stored already.
func (m *member) put(ctx context.Context, sub, old *subscription, fresh bool) error {
	if g, shared := sub.Group(m.tenant.name); shared {
		return m.putShared(ctx, g, sub, old)
	}
	if old != nil {
		sub.since = old.since
		sub.replay.inherit(&old.replay)
	} else if err := m.s.supply(ctx, m.tenant, sub.Filter); err != nil {
		return err
	}
	for src, f := range m.s.feeds {
		if f != nil && old == nil && fresh {
			sub.since[src] = max(f.pos.Load(), m.s.log.Known(f.src).Seq)
		}
	}
	m.mu.Lock()
	m.subs[sub.Filter] = sub
	m.single.Store(len(m.subs) == 1)
	for src, f := range m.s.feeds {
		if l := &m.lines[src]; f != nil && !l.behind && len(l.queue) == 0 {
			l.cursor = max(l.cursor, min(sub.since[src], f.pos.Load()))
		}
	}
	m.mu.Unlock()
	m.tenant.tree.put(sub, old)
	if old == nil {
		m.s.metrics.subscriptions.Inc()
	}
	return nil
}

// supply makes run what brings the messages a filter takes.
func (s *Service) supply(ctx context.Context, t *tenant, filter string) error {
	own, telemetry := reaches(filter)
	if telemetry {
		if err := s.feeds[device.SourceTelemetry].use(ctx); err != nil {
			return err
		}
	}
	if !own {
		return nil
	}
	err := s.feeds[device.SourceTopics].use(ctx)
	if err == nil {
		if err = s.listen(ctx, t); err == nil {
			return nil
		}
		s.feeds[device.SourceTopics].drop()
	}
	if telemetry {
		s.feeds[device.SourceTelemetry].drop()
	}
	return err
}

// spare is the reverse of supply.
func (s *Service) spare(t *tenant, filter string) {
	own, telemetry := reaches(filter)
	if telemetry {
		s.feeds[device.SourceTelemetry].drop()
	}
	if own {
		s.feeds[device.SourceTopics].drop()
		t.ignore()
	}
}

// Unsubscribe implements adapters.Member.
func (m *member) Unsubscribe(filter string) bool {
	m.asking.Lock()
	defer m.asking.Unlock()
	return m.withdraw(filter)
}

func (m *member) withdraw(filter string) bool {
	m.mu.Lock()
	sub := m.subs[filter]
	delete(m.subs, filter)
	m.single.Store(len(m.subs) == 1)
	if sub != nil && sub.share != nil {
		m.shares = without(slices.Clone(m.shares), sub.share)
	}
	m.mu.Unlock()
	if sub == nil {
		return false
	}
	m.forget(sub)
	return true
}

func (m *member) forget(sub *subscription) {
	if sub.share != nil {
		sub.share.remove(m)
	} else {
		m.tenant.tree.remove(sub)
		m.s.spare(m.tenant, sub.Filter)
	}
	m.s.metrics.subscriptions.Dec()
}

// take is called by what feeds the member: a message that the subscriptions take.
func (m *member) take(ref device.Ref, p *device.Publication, subs []*subscription) {
	d, ok := m.delivery(ref, p, subs)
	if !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone {
		return
	}
	if d.Granted == 0 {
		if m.begun { // before that, the peer does not know that its session goes on
			m.offer(d)
		}
		return
	}
	l := &m.lines[ref.Source]
	switch size := p.Size(); {
	case ref.Seq <= l.cursor || l.behind && !l.joining:
	case !l.behind && len(l.queue) == 0 && m.credit > 0:
		m.credit--
		l.cursor = ref.Seq
		m.offer(d)
	case len(l.queue) < m.s.cfg.QueueMessages && l.bytes+size <= m.s.cfg.QueueBytes || len(l.queue) == 0:
		l.queue = append(l.queue, waiting{ref.Seq, d})
		l.bytes += size
	case l.joining:
		l.joining, l.queue, l.bytes = false, nil, 0
	default:
		l.behind = true
		m.s.metrics.behind.Inc()
	}
}

// offer hands a delivery to the door. The lock is held.
func (m *member) offer(d device.TopicDelivery) {
	m.s.metrics.delivered[d.Granted].Inc()
	m.in.Offer(d)
}

// delivery is what the member gets of a message; false for nothing.
func (m *member) delivery(ref device.Ref, p *device.Publication, subs []*subscription) (device.TopicDelivery, bool) {
	d := device.TopicDelivery{Publication: p, Granted: -1}
	for _, sub := range subs {
		if sub.NoLocal && p.Sender == m.in.Key || ref.Seq != 0 && ref.Seq <= sub.since[ref.Source] || sub.replay.brings(p) {
			continue
		}
		d.Granted = max(d.Granted, min(p.QoS, sub.QoS))
		d.Retained = d.Retained || sub.RetainAsPublished && p.Retain
		if sub.ID != 0 {
			d.IDs = append(d.IDs, sub.ID)
		}
	}
	if d.Granted < 0 || p.Expired(time.Now()) {
		return d, false
	}
	if d.Granted > 0 {
		d.Ref = ref
	}
	return d, true
}

// Request implements adapters.Member.
func (m *member) Request(n int) {
	for _, sh := range m.request(n) {
		sh.ask()
	}
}

// request answers the groups that the credit may be for as well.
func (m *member) request(n int) []*share {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.credit += n
	m.begun = true
	m.before.Store(nil)
	m.drain()
	m.more.Broadcast()
	m.wakeReader()
	return m.shares
}

// drain offers what waits, as far as there is credit. The lock is held.
func (m *member) drain() {
	for src := range m.lines {
		l := &m.lines[src]
		if l.joining {
			continue
		}
		n := 0
		for n < len(l.queue) && m.credit > 0 && !m.gone {
			w := l.queue[n]
			n++
			l.bytes -= w.d.Size()
			if w.seq <= l.cursor {
				continue
			}
			m.credit--
			l.cursor = w.seq
			m.offer(w.d)
		}
		if l.queue = l.queue[n:]; len(l.queue) == 0 {
			l.queue, l.bytes = nil, 0
		}
	}
}

// Read implements adapters.Member.
func (m *member) Read(ctx context.Context, ref device.Ref) (*device.Publication, error) {
	if ref.Seq == 0 {
		return nil, device.Errorf(device.NotFound, "the message was lost with its stream")
	}
	p, err := m.s.log.Get(ctx, ref)
	if err == nil && p.Tenant != m.tenant.name { // a place as somebody else counts
		return nil, device.Errorf(device.NotFound, "the message is another tenant's")
	}
	return p, err
}

// Mark implements adapters.Member.
func (m *member) Mark(src device.Source) (string, device.Position) {
	return rand.Text(), m.s.log.Known(src)
}
