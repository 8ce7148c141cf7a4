package topic

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// index is what this node has heard of all records: enough to know where there
// is none, and what has to be done about one that nobody holds.
type index struct {
	mu     sync.Mutex
	rows   map[device.SessionKey]row
	groups map[device.SessionKey][]device.Group // of sessions that are in some, and may miss messages of them
	sizes  map[device.Group]int
	taken  map[device.SessionKey][]device.Taken // of sessions that took some in the place of a group
	left   []device.Group                       // those the last session on record has left, since they were taken
}

type row struct {
	node   string    // that holds it
	ends   time.Time // when it is over, if nobody does; zero: never
	willAt time.Time // zero: no will, or it is held
}

func (x *index) has(key device.SessionKey) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.rows[key]
	return ok
}

// note enters a record of this node before it is heard of.
func (x *index) note(key device.SessionKey, node string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.rows[key]; !ok {
		x.rows[key] = row{node: node}
	}
}

// heard takes what is read of the records.
func (x *index) heard(key device.SessionKey, r *device.SessionRecord) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.join(key, r)
	if r == nil {
		delete(x.rows, key)
		return
	}
	n := row{node: r.Node}
	if r.Node == "" {
		if n.willAt = r.WillAt; r.Expiry != device.Forever {
			n.ends = r.Left.Add(r.Expiry)
		}
	}
	x.rows[key] = n
}

// join notes which groups a session is in; nil is one that is over.
func (x *index) join(key device.SessionKey, r *device.SessionRecord) {
	before := x.groups[key]
	delete(x.groups, key)
	delete(x.taken, key)
	if r != nil {
		if len(r.Taken) > 0 {
			x.taken[key] = r.Taken
		}
		for _, sub := range r.Subscriptions {
			if g, shared := sub.Group(key.Principal.Tenant); shared && sub.QoS > 0 {
				x.groups[key] = append(x.groups[key], g)
				x.sizes[g]++
			}
		}
	}
	for _, g := range before {
		if x.sizes[g]--; x.sizes[g] == 0 {
			delete(x.sizes, g)
			x.left = append(x.left, g)
		}
	}
}

// inGroup reports whether a session on record is in a group.
func (x *index) inGroup(g device.Group) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.sizes[g] > 0
}

// takenIn is what sessions on record took in the place of a group, and who did.
func (x *index) takenIn(g device.Group) map[device.Ref]device.SessionKey {
	x.mu.Lock()
	defer x.mu.Unlock()
	found, filter := map[device.Ref]device.SessionKey{}, shareFilter(g)
	for key, all := range x.taken {
		if key.Principal.Tenant != g.Tenant {
			continue
		}
		for _, t := range all {
			if t.Filter == filter {
				found[t.Ref] = key
			}
		}
	}
	return found
}

// leftGroups takes the groups that may be over.
func (x *index) leftGroups() []device.Group {
	x.mu.Lock()
	defer x.mu.Unlock()
	left := x.left
	x.left = nil
	return left
}

// drop forgets a row, unless it has changed.
func (x *index) drop(key device.SessionKey, seen row) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.rows[key] == seen {
		x.join(key, nil)
		delete(x.rows, key)
	}
}

// due is the records that something has to be done about: wills to publish, and
// what was held by nodes that have ended. What is over is dropped.
func (x *index) due(now time.Time, lives func(string) bool) map[device.SessionKey]row {
	x.mu.Lock()
	defer x.mu.Unlock()
	found := map[device.SessionKey]row{}
	for key, r := range x.rows {
		switch {
		case r.node != "" && !lives(r.node), !r.willAt.IsZero() && !now.Before(r.willAt):
			found[key] = r
		case !r.ends.IsZero() && now.After(r.ends) && r.willAt.IsZero():
			x.join(key, nil)
			delete(x.rows, key) // the stream removes it by itself
		}
	}
	return found
}

// Run follows the records of sessions and does what nobody else does about
// them, until ctx ends; ready once every record there is was heard of.
func (s *Service) Run(ctx context.Context, ready func()) error {
	quiet, err := s.sessions.Answer(s.asked)
	if err != nil {
		return err
	}
	defer quiet()
	var work sync.WaitGroup
	defer work.Wait()
	begun := sync.OnceFunc(func() {
		ready()
		work.Go(func() { s.tend(ctx) })
	})
	return s.sessions.Follow(ctx, begun, s.index.heard)
}

// tend looks at the records, and at those of the members here, every second.
func (s *Service) tend(ctx context.Context) {
	looks := time.NewTicker(s.cfg.TendEvery)
	defer looks.Stop()
	for {
		due := s.index.due(time.Now(), s.sessions.Lives)
		left := s.index.leftGroups()
		if s.sessions.Elder() {
			for key, seen := range due {
				s.settle(ctx, key, seen)
			}
			for _, g := range left {
				s.endShare(ctx, g)
			}
		}
		for _, m := range s.everybody() {
			m.saveDirty()
		}
		select {
		case <-looks.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Service) everybody() (all []*member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		if m.kept() {
			all = append(all, m)
		}
	}
	return all
}

// settle does what is due about a record: a will that is published, a session
// that is over is taken away, one that nobody holds any more is noted as left.
func (s *Service) settle(ctx context.Context, key device.SessionKey, seen row) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	r, rev, err := s.sessions.Load(ctx, key)
	switch {
	case err != nil:
		return // the next look
	case r == nil:
		s.index.drop(key, seen)
		return
	case r.Node != "" && s.sessions.Lives(r.Node):
		return // we shall hear of it
	case r.Node != "":
		leave(r, time.Now(), r.Expiry)
	}
	if now := time.Now(); r.Will != nil && !now.Before(r.WillAt) {
		s.publishWill(r.Will)
		r.Will, r.WillAt = nil, time.Time{}
	}
	if ended(r, time.Now()) {
		err = s.sessions.Remove(ctx, key, rev)
	} else {
		_, err = s.sessions.Save(ctx, r, rev)
	}
	if err != nil && device.CodeOf(err) != device.Conflict {
		s.cfg.Logger.Warn("a session that nobody holds could not be written down", "client", key.Client, key.Principal.Log(), "error", err)
	}
}

// publishWill publishes a will, and waits a little for it to be stored; nil is none.
// One that cannot be retained is published all the same.
func (s *Service) publishWill(w *device.Will) {
	if w == nil {
		return
	}
	p := w.Publication
	p.At = time.Now()
	if !p.Expires.IsZero() { // as long as it was to live from its publication
		p.Expires = p.At.Add(w.Expires.Sub(w.At))
	}
	s.metrics.wills.Inc()
	var lost error
	if p.Retain {
		p.Kept, lost = s.await(func(done func(uint64, error)) error { return s.log.Retain(&p, done) })
	}
	_, err := s.await(func(done func(uint64, error)) error {
		return s.Publish(&p, func(err error) { done(0, err) })
	})
	if err = cmp.Or(err, lost); err != nil {
		s.cfg.Logger.Warn("a will may not have been published", "client", w.Sender.Client, w.Sender.Principal.Log(), "error", err)
	}
}

// await waits for what begin is to tell, at most the time an operation may take.
func (s *Service) await(begin func(done func(uint64, error)) error) (uint64, error) {
	type fate struct {
		seq uint64
		err error
	}
	told := make(chan fate, 1)
	if err := begin(func(seq uint64, err error) { told <- fate{seq, err} }); err != nil {
		return 0, err
	}
	limit := time.NewTimer(s.cfg.Timeout)
	defer limit.Stop()
	select {
	case f := <-told:
		return f.seq, f.err
	case <-limit.C:
		return 0, device.Errorf(device.Unavailable, "not stored in time")
	}
}
