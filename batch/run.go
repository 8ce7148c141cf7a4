package batch

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tributary-iot/tributary/device"
)

// runner drives one batch.
type runner struct {
	s      *Service
	k      key
	driver string // the incarnation of this node that took it up
	found  int    // devices from here on had no command when this node took the batch up

	// Only run's goroutine uses these.
	rec       record // as it was last written
	withdrawn bool   // what was sent when the batch stopped

	mu       sync.Mutex
	batch    device.Batch // state, reason and progress as they are now
	parts    []*part
	pending  map[string]int // command ids to devices
	next     int            // the first device that may be unsent
	underWay int            // commands being sent
	dirty    bool           // something is not written down

	wake chan struct{} // something changed that sending may wait for
}

func newRunner(s *Service, k key, r *record) *runner {
	return &runner{s: s, k: k, driver: r.Driver, found: r.Reach, rec: *r, batch: r.Batch, pending: map[string]int{}, wake: make(chan struct{}, 1)}
}

// nudge has run look again; it does not block.
func (r *runner) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run answers nil once the batch has ended.
func (r *runner) run() error {
	ctx, cancel := context.WithCancel(r.s.ctx)
	defer cancel()
	if err := r.load(ctx); err != nil {
		return err
	}
	defer r.s.commands.Heed(r.heed)()
	if err := r.recover(ctx); err != nil {
		return err
	}
	senders := limited(r.s.cfg.Senders)
	defer func() { cancel(); _ = senders.Wait() }() // answers nothing
	var pace pacer
	flush := time.NewTicker(r.s.cfg.WriteEvery)
	defer flush.Stop()
	for {
		if err := r.catchUp(ctx); err != nil {
			return err
		}
		if r.finished() {
			return r.writeDown(ctx, true)
		}
		wait, err := r.sendSome(ctx, senders, &pace)
		if err != nil {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-r.wake:
		case <-timer.C:
		case <-flush.C:
			if err := r.writeDown(ctx, false); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		timer.Stop()
	}
}

// load reads the parts and counts anew.
func (r *runner) load(ctx context.Context) error {
	r.batch.Progress = device.BatchProgress{}
	for n := range r.rec.count() {
		value, rev, err := r.s.store.Get(ctx, r.k.tenant, r.rec.Parts, n)
		if err != nil {
			return err
		}
		p, err := decodePart(value, rev)
		if err != nil {
			return err
		}
		for i := range p.Devices {
			p.count(i, &r.batch.Progress, 1)
		}
		r.parts = append(r.parts, p)
	}
	return nil
}

// recover finds the commands that were sent and not written down, and hears how
// those that were stand now.
func (r *runner) recover(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(r.s.cfg.Senders)
	for i := range min(r.rec.Reach, r.rec.Batch.Total) {
		if p, n := r.at(i); p.settled(n) {
			continue
		}
		group.Go(func() error { return r.findAgain(ctx, i) })
	}
	return group.Wait()
}

func (r *runner) findAgain(ctx context.Context, i int) error {
	p, n := r.at(i)
	id := device.ID{Tenant: r.k.tenant, Device: p.Devices[n]}
	rec, err := r.s.commands.ByKey(ctx, id, r.commandKey())
	if device.CodeOf(err) == device.NotFound {
		return nil // it was not sent
	}
	if err != nil {
		return err
	}
	return r.adopt(ctx, i, &rec)
}

// at is the part of a device and its place there.
func (r *runner) at(i int) (*part, int) { return r.parts[i/PartSize], i % PartSize }

// commandKey is that of all commands of the batch.
func (r *runner) commandKey() string { return "batch/" + r.k.id }

// adopt takes the ith device's command as it stands, and hears of its end.
func (r *runner) adopt(ctx context.Context, i int, rec *device.CommandRecord) error {
	id, dev := rec.Command.ID, rec.Command.ForDevice()
	r.mu.Lock()
	p, n := r.at(i)
	if p.States[n] == device.StateNone {
		p.count(n, &r.batch.Progress, -1)
		p.Commands[n], p.States[n] = id, device.StateQueued
		p.count(n, &r.batch.Progress, 1)
		p.dirty, r.dirty = true, true
	}
	r.pending[id] = i
	r.mu.Unlock()
	now, err := r.s.commands.Get(ctx, dev, id) // its end may have passed before it was in pending
	if err != nil {
		return err
	}
	r.settle(now.Last())
	return nil
}

// heed hears every transition of every command.
func (r *runner) heed(e device.StoredEvent) { r.settle(e.CommandEvent) }

// settle takes a transition, if it is the end of one of the batch's commands.
func (r *runner) settle(e device.CommandEvent) {
	if !e.State.Terminal(r.batch.Command.OneWay) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i, ours := r.pending[e.Command]
	if !ours {
		return
	}
	delete(r.pending, e.Command)
	p, n := r.at(i)
	p.count(n, &r.batch.Progress, -1)
	p.States[n] = e.State
	if e.Status != 0 {
		p.Statuses[n] = e.Status
	}
	p.count(n, &r.batch.Progress, 1)
	p.dirty, r.dirty = true, true
	r.judge()
	r.nudge()
}

// refuse notes that a device's command cannot be sent.
func (r *runner) refuse(i int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, n := r.at(i)
	p.count(n, &r.batch.Progress, -1)
	p.Refused[n] = device.PublicMessage(err)
	p.count(n, &r.batch.Progress, 1)
	p.dirty, r.dirty = true, true
	r.judge()
	r.nudge()
}

// judge aborts the batch when too many have failed; mu is held.
func (r *runner) judge() {
	b := &r.batch
	ended, bad := b.Progress.Ended(), b.Progress.Bad()
	if b.AbortPercent == 0 || b.State.Stopped() || ended < min(b.AbortAfter, b.Total) || bad*100 < b.AbortPercent*ended {
		return
	}
	b.State, b.Reason, r.dirty = device.BatchAborted, aborted(bad, ended), true
}

// finished reports whether nothing can become of any device any more.
func (r *runner) finished() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.batch.Progress
	if p.Unsent == 0 && p.Pending == 0 && !r.batch.State.Stopped() {
		r.batch.State, r.dirty = device.BatchCompleted, true
	}
	return p.Pending == 0 && r.underWay == 0 && r.batch.State.Stopped()
}

func (r *runner) stopped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.batch.State.Stopped()
}
