package command

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// session is one stay of the device at a door of this node. The last of the actor's
// stack holds the lease; those below wait until it leaves. Sessions of gateways are
// below those of the device itself, the gateway that spoke last above the others.
type session struct {
	s     *Service
	who   device.Session
	offer func(device.Delivery)
	lost  func()

	// These belong to the actor.
	epoch     device.Epoch   // zero: does not hold the lease
	elsewhere bool           // another node has a newer one
	since     int64          // when it was attached: Unix time, in nanoseconds
	life      string         // the incarnation of this node that took the lease
	credit    int            // deliveries asked for and not made
	held      map[string]int // deliveries made and not settled: command id to attempt; nil until the first

	mu     sync.Mutex // held during the calls to the adapter, so that Detach waits for them
	closed bool       // detached: no more calls
	told   bool       // lost was called
}

// Attach is adapters.Gate.Attach: the newest session gets the lease, and what
// older ones had not settled goes back to the queue.
func (s *Service) Attach(ctx context.Context, who device.Session, offer func(device.Delivery), lost func()) (adapters.Attachment, error) {
	if err := who.Device.Validate(); err != nil {
		return nil, err
	}
	t := &session{s: s, who: who, offer: offer, lost: lost, since: time.Now().UnixNano()}
	s.mu.Lock()
	stopping := s.stopping
	s.mu.Unlock()
	if stopping {
		return nil, device.Errorf(device.Unavailable, "the server is stopping")
	}
	_, err := await(ctx, t.stay, func(a *actor) (struct{}, error) { return struct{}{}, a.attach(t) })
	if err != nil {
		t.Detach("attach failed") // it may still be under way
		return nil, err
	}
	return t, nil
}

func (a *actor) attach(t *session) error {
	if t.gone() {
		return device.Errorf(device.Unavailable, "the session ended while it was attached")
	}
	life, err := a.s.cfg.Acting()
	if err != nil {
		return err
	}
	t.life = life
	if top := a.top(); top != nil && top.who.Via == "" && t.who.Via != "" {
		a.stack = slices.Insert(a.stack, a.gateways(), t) // the device itself is here: the gateway waits
		return nil
	}
	if err := a.lease(t); err != nil {
		return unavailable(err)
	}
	top := a.top()
	a.stack = append(a.stack, t)
	if t.elsewhere {
		return nil
	}
	if top != nil {
		top.displace()
	}
	a.reconcile()
	return nil
}

// lease takes the lease for a session. That of a gateway is elsewhere when the device
// itself is connected to another node.
func (a *actor) lease(t *session) error {
	ctx, cancel := a.leaseTimeout()
	defer cancel()
	epoch, err := a.s.leases.Take(ctx, t.who, a.s.cfg.Node)
	if t.who.Via != "" && device.CodeOf(err) == device.Conflict {
		t.elsewhere, a.rival = true, rival{itself: true}
		return nil
	}
	if err != nil {
		return err
	}
	a.isFree()
	t.epoch = epoch
	return nil
}

// gateways is how many sessions of gateways there are: the first of the stack.
func (a *actor) gateways() (n int) {
	for n < len(a.stack) && a.stack[n].who.Via != "" {
		n++
	}
	return n
}

// Spoke is told that a gateway brought a message of a device: of several gateways
// that could take the device's commands, the last that spoke for it does.
func (s *Service) Spoke(id device.ID, gateway string) {
	s.withKnown(id, func(a *actor, err error) {
		if err == nil {
			a.spoke(gateway)
		}
	})
}

func (a *actor) spoke(gateway string) {
	n := a.gateways()
	i := slices.IndexFunc(a.stack[:n], func(t *session) bool { return t.who.Via == gateway })
	if i < 0 {
		return
	}
	was, t := a.top(), a.stack[i]
	if a.stack[n-1].who.Via != gateway {
		a.stack = slices.Insert(slices.Delete(a.stack, i, i+1), n-1, t)
	}
	switch top := a.top(); {
	case top.who.Via == "", top.elsewhere && a.rival.itself: // the device is connected itself
		return
	case top.elsewhere: // another gateway, on another node, has the commands
		a.isFree()
	case top == was:
		return
	default:
		was.displace()
	}
	a.reconcile()
}

func (a *actor) top() *session {
	if len(a.stack) == 0 {
		return nil
	}
	return a.stack[len(a.stack)-1]
}

// Request asks for n more deliveries.
func (t *session) Request(n int) {
	if n <= 0 {
		return
	}
	t.stay(func(a *actor, err error) {
		t.credit += n
		if err != nil {
			a.retry()
			return
		}
		a.pump()
	})
}

// Detach gives up the lease. It must not be called from within offer or lost,
// nor while holding a lock that they take: it waits for a call under way.
func (t *session) Detach(reason string) {
	t.mu.Lock()
	was := t.closed
	t.closed = true
	t.mu.Unlock()
	if was {
		return
	}
	t.stay(func(a *actor, err error) { a.detach(t, reason, err) })
}

func (a *actor) detach(t *session, reason string, err error) {
	for i, u := range a.stack {
		if u == t {
			a.stack = append(a.stack[:i:i], a.stack[i+1:]...)
			break
		}
	}
	if err != nil {
		a.retry()
		return
	}
	if a.top() != nil {
		a.reconcile()
		return
	}
	a.giveBack(reason)
	if t.epoch == (device.Epoch{}) {
		return
	}
	ctx, cancel := a.leaseTimeout()
	defer cancel()
	if err := a.s.leases.Release(ctx, a.id, t.epoch); err != nil {
		a.s.cfg.Logger.Warn("lease not released; it is superseded when the device attaches again", a.id.Log(), "error", err)
	}
}

// reconcile makes what is true of the sessions true of the commands: the newest
// session holds the lease, nothing is SENT that no session holds, and what
// waits is offered. It is run whenever either may have changed, and again after
// a pause when a stream failed.
func (a *actor) reconcile() {
	if top := a.top(); top != nil && top.epoch == (device.Epoch{}) {
		if top.elsewhere {
			return
		}
		life, err := a.s.cfg.Acting()
		if err != nil || top.life != life {
			return // its door is told to end it
		}
		if err := a.lease(top); err != nil {
			a.s.cfg.Logger.Warn("lease not taken; trying again", a.id.Log(), "error", err)
			a.retry()
			return
		}
		if top.elsewhere {
			return
		}
	}
	a.giveBack("session lost")
	a.pump()
}

// giveBack returns to the queue what is SENT to sessions that are gone: older
// than the one that holds the lease, or this node's when it has none.
func (a *actor) giveBack(reason string) {
	top := a.top()
	for _, id := range a.sent() {
		c := a.find(id) // anew: a conflict replaces them all
		if c == nil || c.state.State != device.StateSent {
			continue
		}
		if top != nil {
			if top.held[id] == c.state.Attempt && c.state.Epoch == top.epoch {
				continue
			}
			if top.epoch.Before(c.state.Epoch) {
				continue // a newer session, elsewhere, has it
			}
		} else if c.events[len(c.events)-1].Node != a.s.cfg.Node {
			continue
		}
		if !a.lose(c, reason) {
			return
		}
	}
}

func (a *actor) sent() (ids []string) {
	for _, c := range a.cmds {
		if c.state.State == device.StateSent {
			ids = append(ids, c.cmd.ID)
		}
	}
	return ids
}

func (a *actor) lose(c *live, reason string) bool {
	_, err := a.apply(c.cmd.ID, transition{
		Event: Event{Kind: SessionLost, At: now(), Epoch: c.state.Epoch}, reason: reason,
	})
	if err != nil && device.CodeOf(err) == device.Unavailable {
		a.s.cfg.Logger.Warn("command not returned to the queue; trying again", "command", c.cmd.ID, "error", err)
		a.retry()
		return false
	}
	return true
}

// displace tells a session that a newer one has the lease. It is told once;
// the lease may come back to it.
func (t *session) displace() {
	t.epoch = device.Epoch{}
	clear(t.held)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed && !t.told {
		t.told = true
		t.lost()
	}
}

// hand gives the adapter a command that is SENT. A session that was detached
// meanwhile does not get it; its detach gives the command back.
func (t *session) hand(d device.Delivery) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.offer(d)
	}
}

func (t *session) gone() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}
