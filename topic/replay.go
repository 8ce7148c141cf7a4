package topic

import (
	"context"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// replay says of a subscription what it gets of what was retained before it, and what
// as it is published. A message is retained first and published then, with its place
// among the retained ones: what stands up to since comes by replay only, what stands
// after it only as it is published. A subscription in the place of another goes on
// taking what is published, and is sent what is retained besides.
type replay struct {
	mu      sync.Mutex
	asked   bool // since is not known yet
	since   uint64
	ongoing bool              // or about to begin
	newer   map[string]uint64 // the last that came meanwhile as it was published, by topic
}

// maxNewer bounds replay.newer. When it is full it begins anew: most of it is about
// topics whose retained message was offered, or is replaced and not found any more.
const maxNewer = 8192

// begin is called before the subscription takes anything. A first one gets nothing
// that is published and was retained until it is known where that ends.
func (r *replay) begin(first bool) { r.asked, r.ongoing = first, true }

// inherit goes on from the subscription in whose place this one is.
func (r *replay) inherit(old *replay) {
	old.mu.Lock()
	defer old.mu.Unlock()
	r.since = old.since
}

// found is told where the newest retained message stands, and answers the last to be
// replayed: of those that were published meanwhile, and not taken, too.
func (r *replay) found(last uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked {
		r.asked, r.since = false, max(r.since, last)
		last = r.since
	}
	return last
}

// brings reports whether a message that is published comes by replay.
func (r *replay) brings(p *device.Publication) bool {
	if p.Kept == 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.asked: // the replay is yet to begin, and finds it
		r.since = max(r.since, p.Kept)
		return true
	case p.Kept <= r.since:
		return true
	case r.ongoing:
		if len(r.newer) >= maxNewer || r.newer == nil {
			r.newer = map[string]uint64{}
		}
		r.newer[p.Topic] = max(r.newer[p.Topic], p.Kept)
	}
	return false
}

// replaced reports whether a newer message came before a topic's retained one.
func (r *replay) replaced(topic string, kept uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.newer[topic] > kept
}

func (r *replay) over() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ongoing, r.newer = false, nil
}

// putAndReplay enters a subscription, and answers what offers the messages that were
// retained then.
func (m *member) putAndReplay(ctx context.Context, sub, old *subscription) (func(), error) {
	sub.replay.begin(old == nil)
	if err := m.put(ctx, sub, old, true); err != nil {
		return nil, err
	}
	last, err := m.s.log.LastRetained(ctx, m.tenant.name, sub.Filter)
	if err != nil {
		m.undo(sub, old)
		return nil, err
	}
	if last = sub.replay.found(last); last == 0 {
		sub.replay.over()
		return func() {}, nil
	}
	return func() { m.replay(sub, last) }, nil
}

// undo puts old back, or nothing.
func (m *member) undo(sub, old *subscription) {
	if old == nil {
		m.withdraw(sub.Filter)
		return
	}
	m.mu.Lock()
	m.subs[sub.Filter] = old
	m.mu.Unlock()
	m.tenant.tree.put(old, sub)
}

// replay offers what is retained, up to last, as long as it is subscribed to.
func (m *member) replay(sub *subscription, last uint64) {
	defer m.s.contain("retained messages of a subscription")
	defer sub.replay.over()
	end, err := m.s.log.End(m.ctx, device.SourceRetained)
	if err == nil {
		err = m.replayAll(sub, last, end.Epoch)
	}
	if err != nil && m.ctx.Err() == nil {
		m.s.cfg.Logger.Warn("retained messages could not be read for a session", "client", m.in.Key.Client, "error", err)
	}
}

func (m *member) replayAll(sub *subscription, last, epoch uint64) error {
	return m.s.log.Retained(m.ctx, m.tenant.name, sub.Filter, last, func(ref device.Ref, p *device.Publication) bool {
		d := device.TopicDelivery{Publication: p, Granted: min(p.QoS, sub.QoS), Retained: true}
		if sub.ID != 0 {
			d.IDs = []uint32{sub.ID}
		}
		if sub.NoLocal && p.Sender == m.in.Key || p.Expired(time.Now()) {
			return true
		}
		if d.Granted == 0 && m.in.Room(m.ctx) != nil {
			return false
		}
		if d.Granted > 0 {
			d.Ref = device.Ref{Source: ref.Source, Epoch: epoch, Seq: ref.Seq}
		}
		return m.offerSoon(sub, ref.Seq, d)
	})
}

// offerSoon waits for credit, and offers what was not replaced meanwhile; false when
// nothing more is wanted.
func (m *member) offerSoon(sub *subscription, kept uint64, d device.TopicDelivery) bool {
	defer context.AfterFunc(m.ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.more.Broadcast()
	})()
	m.mu.Lock()
	defer m.mu.Unlock()
	for d.Granted > 0 && m.credit == 0 && !m.gone && m.ctx.Err() == nil {
		m.more.Wait()
	}
	if m.gone || m.ctx.Err() != nil || m.subs[sub.Filter] != sub {
		return false
	}
	if sub.replay.replaced(d.Topic, kept) {
		return true
	}
	if d.Granted > 0 {
		m.credit--
	}
	m.offer(d)
	return true
}
