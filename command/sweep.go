package command

import (
	"context"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/tributary-iot/tributary/device"
)

// maxSweep bounds how many requests are removed one by one in a sweep.
const maxSweep = 1000

// keepTidy removes what has ended and is in the store, and drops actors
// nobody uses.
func (s *Service) keepTidy() {
	ticker := time.NewTicker(s.cfg.SweepEvery)
	defer ticker.Stop()
	w, evicted := sweeper{s: s}, time.Now()
	for {
		select {
		case <-ticker.C:
		case <-s.ctx.Done():
			return
		}
		if time.Since(evicted) >= s.cfg.IdleAfter/4 {
			evicted = time.Now()
			s.evict()
		}
		if s.cfg.Stored == nil || s.cfg.Bystander {
			continue
		}
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Timeout)
		if err := w.sweep(ctx); err != nil && s.ctx.Err() == nil {
			s.cfg.Logger.Warn("ended commands not removed; trying again", "error", err)
		}
		cancel()
	}
}

func (s *Service) evict() {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Now()
	for a := range s.actors.All() {
		if a.evictable(at, s.cfg.IdleAfter) {
			s.actors.Delete(a.id)
		}
	}
}

// sweeper removes in the order that keeps a command from rising again: first
// the request, then, when that is durable, its events.
type sweeper struct {
	s      *Service
	purged uint64    // events up to here are purged
	floor  uint64    // events up to here can be, since
	since  time.Time // then
}

func (w *sweeper) sweep(ctx context.Context) error {
	commands, events, err := w.s.cfg.Stored(ctx)
	if err != nil {
		return err
	}
	if err := w.dropOrphans(ctx); err != nil {
		return err
	}
	for {
		before, gone := w.removable(commands, events)
		if len(gone) == 0 {
			break
		}
		var singles []uint64
		for _, e := range gone {
			if e.request >= before {
				singles = append(singles, e.request)
			}
		}
		if err := w.s.mailbox.Remove(ctx, before, singles); err != nil {
			return err
		}
		w.forget(gone)
		if len(singles) < maxSweep {
			break
		}
	}
	return w.purge(ctx, events)
}

// removable lists commands whose request may be removed: they have ended, and
// the store holds both request and end. All requests before the answered
// sequence are among them or were removed earlier.
func (w *sweeper) removable(commands, events uint64) (before uint64, gone []*entry) {
	t := w.s.table
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	stored := func(e *entry) bool {
		return e.request != 0 && e.request <= commands && e.last <= events && e.state.Terminal(e.oneWay)
	}
	if len(t.finished) == 0 {
		return 0, nil
	}
	before = min(w.s.requests.read, commands) + 1
	if first, ok := t.requests.first(stored); ok {
		before = min(before, first)
	}
	singles := 0
	for _, e := range t.finished {
		if !stored(e) {
			continue
		}
		if e.request >= before {
			if singles == maxSweep {
				continue
			}
			singles++
		}
		gone = append(gone, e)
	}
	return before, gone
}

func (w *sweeper) forget(gone []*entry) {
	byDevice := map[device.ID]map[string]bool{}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	for _, e := range gone {
		w.s.table.forget(e)
		id := e.dev.Value()
		if w.s.actors.Get(id) == nil {
			continue
		}
		if byDevice[id] == nil {
			byDevice[id] = map[string]bool{}
		}
		byDevice[id][e.id.String()] = true
	}
	for id, ids := range byDevice {
		w.s.actors.Get(id).post(func(a *actor, err error) { a.forget(ids) })
	}
}

// dropOrphans forgets events whose request was removed before this node saw it:
// once every request stored before the event was seen has been read, it is not
// coming.
func (w *sweeper) dropOrphans(ctx context.Context) error {
	w.s.mu.Lock()
	var ids []ulid.ULID
	for id := range w.s.table.orphans {
		ids = append(ids, id)
	}
	w.s.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	if err := w.s.reach(ctx, &w.s.requests, w.s.mailbox.Last); err != nil {
		return err
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	for _, id := range ids {
		if e := w.s.table.orphans[id]; e != nil {
			w.s.table.forget(e)
		}
	}
	return nil
}

// purge removes the events before the first that belongs to a request still in
// the mailbox, as far as the store holds them. It waits a while after it could,
// so that no other node is still about to read what led to them, and goes in
// steps, because each costs the stream more than its messages.
func (w *sweeper) purge(ctx context.Context, events uint64) error {
	w.s.mu.Lock()
	floor := min(events, w.s.events.read)
	if first, ok := w.s.table.events.first(func(*entry) bool { return false }); ok {
		floor = min(floor, first-1)
	}
	w.s.mu.Unlock()
	if w.since.IsZero() {
		w.floor, w.since = floor, time.Now()
	}
	if time.Since(w.since) < w.s.cfg.PurgeDelay {
		return nil
	}
	through := w.floor
	w.floor, w.since = floor, time.Now()
	if through < w.purged+w.s.cfg.PurgeStep {
		return nil
	}
	if err := w.s.log.Purge(ctx, through); err != nil {
		return err
	}
	w.purged = through
	return nil
}
