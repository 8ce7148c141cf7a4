package command

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// actor is one device somebody speaks with. Its operations run one at a time,
// in order, on a goroutine that exists only while there are any. What is below
// the line belongs to that goroutine.
type actor struct {
	s  *Service
	id device.ID

	queue   []operation // Service.mu guards these three
	running bool
	used    time.Time

	// ----
	loaded    bool
	known     bool         // it was loaded before: lastEvent and newest are worth something
	cmds      []*live      // those in the mailbox, oldest first
	lastEvent uint64       // the device's newest event
	lastReq   uint64       // and request
	newest    device.Epoch // the newest session that ever acted: older ones are fenced off
	readReq   uint64       // requests up to here were read by load: the feed's are old news
	stack     []*session
	rival     rival       // who has the lease when sessions here are elsewhere
	timer     *time.Timer // to retry or to offer later
	timerAt   time.Time
}

// operation is something an actor does. A light one need not have the actor loaded
// while its device is quiet.
type operation struct {
	do    func(a *actor, err error)
	light bool
}

// post adds an operation; Service.mu is held.
func (a *actor) post(op func(a *actor, err error)) { a.enqueue(operation{do: op}) }

func (a *actor) enqueue(op operation) {
	a.queue = append(a.queue, op)
	if !a.running {
		a.running = true
		a.s.busy++
		go a.run()
	}
}

func (a *actor) run() {
	for {
		a.s.mu.Lock()
		if len(a.queue) == 0 {
			a.rest()
			a.s.mu.Unlock()
			return
		}
		op := a.queue[0]
		a.queue[0] = operation{}
		a.queue = a.queue[1:]
		light := op.light && !a.known && a.s.quiet(a.id)
		a.s.mu.Unlock()
		var err error
		if !a.loaded && !light {
			err = a.wakeUp()
		}
		op.do(a, err)
	}
}

// calm reports whether the actor does nothing, was not loaded and need not be, and has
// no session but t; Service.mu is held.
func (a *actor) calm(t *session) bool {
	return !a.running && !a.loaded && !a.known && (len(a.stack) == 0 || len(a.stack) == 1 && a.stack[0] == t) && a.s.quiet(a.id)
}

// wakeUp loads an actor. Sessions that came while it was not loaded have their due.
func (a *actor) wakeUp() error {
	err := a.load()
	switch {
	case len(a.stack) == 0:
	case err != nil:
		a.retry()
	default:
		a.reconcile()
	}
	return err
}

// rest ends the goroutine; Service.mu is held.
func (a *actor) rest() {
	a.queue, a.running, a.used = nil, false, time.Now()
	a.s.busy--
	if a.s.busy == 0 && a.s.idle != nil {
		select {
		case <-a.s.idle:
		default:
			close(a.s.idle)
		}
	}
}

// evictable reports whether nothing is lost by dropping the actor; Service.mu is held.
func (a *actor) evictable(now time.Time, after time.Duration) bool {
	return !a.running && len(a.stack) == 0 && a.timer == nil && now.Sub(a.used) >= after
}

// load folds the device's part of both streams, up to the event that is its newest
// now. Requests are read after that: a command among them whose transitions follow
// gets them by the feed. What the feed brought up to now is older than what is read
// here, because the actor was registered with the feed before. Of the events only
// those are read that may be of these commands, or of a session not heard of yet:
// a device's past is long, and reading it is most of what the streams have to do.
func (a *actor) load() error {
	a.loaded = false
	ctx, cancel := a.timeout()
	defer cancel()
	newest, err := a.s.log.Newest(ctx, a.id)
	if err != nil {
		return unavailable(err)
	}
	requests, err := a.s.mailbox.Requests(ctx, a.id)
	if err != nil {
		return unavailable(err)
	}
	requests, from := a.s.begun(requests)
	if a.known {
		from = min(from, a.lastEvent+1)
	}
	var events []device.StoredEvent
	if from <= newest.Position.Seq {
		if events, err = a.s.log.Events(ctx, a.id, from); err != nil {
			return unavailable(err)
		}
	}
	a.take(requests, events, newest)
	return nil
}

func (a *actor) take(requests, events []device.StoredEvent, newest device.StoredEvent) {
	a.cmds, a.lastEvent, a.lastReq = nil, 0, 0
	for _, r := range requests {
		a.cmds = append(a.cmds, newLive(r))
		a.lastReq = r.Position.Seq
	}
	a.readReq = a.lastReq
	for _, e := range events {
		if e.Position.Seq <= newest.Position.Seq {
			a.fold(e)
		}
	}
	a.lastEvent = newest.Position.Seq
	a.acted(newest.Epoch)
	a.loaded, a.known = true, true
}

// begun answers those of a device's requests that are not removed, as far as this
// node has read (a replica that is behind may show others), and the sequence before
// which no event is theirs.
func (s *Service) begun(requests []device.StoredEvent) (still []device.StoredEvent, from uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from = s.events.read + 1
	for _, r := range requests {
		first, ok := s.table.begun(r.Command)
		if !ok && r.Position.Seq <= s.requests.read {
			continue
		}
		if first != 0 {
			from = min(from, first)
		}
		still = append(still, r)
	}
	return still, from
}

func (a *actor) find(id string) *live {
	for _, c := range a.cmds {
		if c.cmd.ID == id {
			return c
		}
	}
	return nil
}

// admit takes a request, from the feed or just stored here.
func (a *actor) admit(r device.StoredEvent) {
	if a.find(r.Command) != nil {
		return
	}
	c := newLive(r)
	at, _ := slices.BinarySearchFunc(a.cmds, c.seq, func(c *live, seq uint64) int {
		return compare(c.seq, seq)
	})
	a.cmds = slices.Insert(a.cmds, at, c)
	a.lastReq = max(a.lastReq, c.seq)
	a.pump()
}

func compare(x, y uint64) int {
	if x < y {
		return -1
	} else if x > y {
		return 1
	}
	return 0
}

// hear takes an event from the feed. Our own are old news. One of a command
// that is not known means that the feed of events is ahead of that of requests:
// taking it would lose it, and the next append would pass for one that knew.
func (a *actor) hear(e device.StoredEvent) {
	if e.Position.Seq <= a.lastEvent {
		return
	}
	if a.find(e.Command) != nil {
		a.fold(e)
	} else if err := a.load(); err != nil {
		a.retry()
		return
	}
	a.reconcile()
}

// fold takes a durable event.
func (a *actor) fold(e device.StoredEvent) {
	if e.Position.Seq <= a.lastEvent {
		return
	}
	a.lastEvent = e.Position.Seq
	a.acted(e.Epoch)
	if c := a.find(e.Command); c != nil {
		c.fold(e.CommandEvent)
	}
}

// forget drops commands that were removed from the mailbox.
func (a *actor) forget(gone map[string]bool) {
	a.cmds = slices.DeleteFunc(a.cmds, func(c *live) bool { return gone[c.cmd.ID] })
}

// maxConflicts bounds how often one operation is judged anew: each time
// somebody else was faster.
const maxConflicts = 32

// errGone is told of a command that is not in the mailbox.
var errGone = device.Errorf(device.NotFound, "there is no such command")

// apply makes t happen to a command: judge it by the table, append what
// follows, take it. On a conflict the device is read anew and judged again. It
// answers the effects that are left to the caller.
func (a *actor) apply(id string, t transition) ([]Effect, error) {
	for try := 0; ; try++ {
		c := a.find(id)
		if c == nil {
			return nil, errGone
		}
		if t.acts() && t.Epoch.Before(a.newest) {
			return nil, device.Errorf(device.Conflict, "a newer session has taken over the device")
		}
		next, effects, err := Next(c.state, t.Event)
		if err != nil || len(effects) == 0 {
			return nil, err
		}
		e := t.event(c, next, a.s.cfg.Node)
		err = a.append(c, &e)
		if err == nil {
			return effects[1:], nil
		}
		conflict := device.CodeOf(err) == device.Conflict
		if try == maxConflicts || !conflict && try > 0 {
			return nil, unavailable(err)
		}
		if lerr := a.load(); lerr != nil {
			return nil, unavailable(errors.Join(err, lerr))
		}
		if c = a.find(id); c == nil || conflict || !c.holds(&e) {
			continue
		}
		if c.state.Attempt != e.Attempt || c.state.State != e.State {
			return nil, nil // others have acted since: what there is to do is theirs
		}
		return effects[1:], nil
	}
}

// append makes e durable and takes it.
func (a *actor) append(c *live, e *device.CommandEvent) error {
	ctx, cancel := a.timeout()
	defer cancel()
	seq, err := a.s.log.Append(ctx, e, a.lastEvent)
	if err != nil {
		if device.CodeOf(err) == device.Conflict {
			a.s.metrics.conflicts.Inc()
		} else {
			a.s.metrics.failures.Inc()
		}
		return err
	}
	a.lastEvent = seq
	a.acted(e.Epoch)
	held := c.state.HoldsLine()
	c.fold(*e)
	if held && !c.state.HoldsLine() {
		a.pumpSoon() // for those behind it
	}
	a.s.metrics.transition(e)
	return nil
}

// acted notes the epoch of a durable event.
func (a *actor) acted(e device.Epoch) {
	if a.newest.Before(e) {
		a.newest = e
	}
}

// acts reports whether the transition is a session's, and so subject to its epoch.
func (t *transition) acts() bool {
	switch t.Kind {
	case Offer, Accept, Unconfirm, Reject, Release, LockExpire:
		return true
	}
	return false
}

func (a *actor) timeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(a.s.ctx, a.s.cfg.Timeout)
}

// leaseTimeout is timeout for a lease, which asks nobody on a node that is alone. Every
// session does that: it costs neither a timer nor the depth of the stack to make one.
func (a *actor) leaseTimeout() (context.Context, context.CancelFunc) {
	if a.s.cfg.Alone {
		return a.s.ctx, func() {}
	}
	return a.timeout()
}

// retry comes back to what could not be done for want of a stream.
func (a *actor) retry() { a.wakeAt(time.Now().Add(a.s.cfg.RetryAfter)) }

// wakeAt has reconcile run at a time, or earlier.
func (a *actor) wakeAt(at time.Time) {
	if a.s.ctx.Err() != nil {
		return
	}
	if a.timer != nil {
		if !at.Before(a.timerAt) {
			return
		}
		a.timer.Stop()
	}
	var timer *time.Timer
	timer = time.AfterFunc(time.Until(at), func() {
		if a.s.ctx.Err() != nil {
			return
		}
		a.s.with(a.id, func(now *actor, err error) {
			if now == a && a.timer == timer {
				a.timer = nil
			}
			if err != nil {
				now.retry()
				return
			}
			now.reconcile()
		})
	})
	a.timer, a.timerAt = timer, at
}
