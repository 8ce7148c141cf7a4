package command

import (
	"time"
	"unique"

	"github.com/tributary-iot/tributary/device"
)

// What the other nodes do to the sessions of this one.

// mayAct reports whether the session still acts for its device: not while this
// node is cut off from the others, and not after it lost its place.
func (t *session) mayAct() error {
	life, err := t.s.cfg.Acting()
	if err == nil && life != t.life {
		err = device.Errorf(device.Conflict, "this session ended when its server was cut off from the others")
	}
	return err
}

// rival is the session that has the lease on another node, as far as it is known.
type rival struct {
	node   string
	itself bool // it is the device's own
}

// TakenElsewhere is told that another node took a device's lease, as it is read
// of the leases, for the device itself or for a gateway. Older sessions of the device
// here may no longer act.
func (s *Service) TakenElsewhere(id device.ID, epoch device.Epoch, node string, itself bool) {
	s.withKnown(id, func(a *actor, err error) { a.yield(epoch, rival{node, itself}) })
}

// FreedElsewhere is told that another node gave a device's lease back: the
// newest session here, if any is left, takes it again.
func (s *Service) FreedElsewhere(id device.ID) {
	s.withKnown(id, func(a *actor, err error) {
		a.isFree()
		if err != nil {
			a.retry()
			return
		}
		a.reconcile()
	})
}

// withKnown runs op if the device has an actor; without one it has no session.
func (s *Service) withKnown(id device.ID, op func(*actor, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.actors.Get(id); a != nil {
		a.post(op)
	}
}

// isFree has the sessions here try for the lease again.
func (a *actor) isFree() {
	a.rival = rival{}
	for _, t := range a.stack {
		t.elsewhere = false
	}
}

// yield displaces every session older than a lease taken on another node, and
// has the doors end them.
func (a *actor) yield(epoch device.Epoch, to rival) {
	top := a.top()
	if top == nil || !top.epoch.Before(epoch) {
		return
	}
	a.rival = to
	if top.elsewhere {
		return
	}
	a.s.cfg.Logger.Info("a newer session of the device is on another node", a.id.Log())
	for _, t := range a.stack {
		t.displace()
		t.elsewhere = true
		a.s.cfg.Moved(t.who, time.Unix(0, t.since))
	}
}

// NodeGone is told that a node has died or left: what it had sent goes back to
// the queue, unless a node of its name is back and has done so itself.
func (s *Service) NodeGone(name string, back func() bool) {
	s.inherit(name)
	if s.cfg.Bystander || name == s.cfg.Node {
		return
	}
	gone := unique.Make(name)
	s.mu.Lock()
	held := map[device.ID]bool{}
	for _, e := range s.table.byID {
		if e.holder == gone {
			held[e.dev.Value()] = true
		}
	}
	s.mu.Unlock()
	if len(held) > 0 {
		s.cfg.Logger.Info("returning what a dead node had sent to the queue", "node", name, "devices", len(held))
	}
	for id := range held {
		s.with(id, func(a *actor, err error) {
			if err == nil && !back() {
				a.bereave(name)
			}
		})
	}
}

// inherit has gateways that wait for the lease of a session of a node that is gone try
// for it; those whose device may be connected itself elsewhere will be told so again.
func (s *Service) inherit(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.actors.All() {
		a.post(func(a *actor, err error) {
			top := a.top()
			if top == nil || top.who.Via == "" || !top.elsewhere || !a.rival.itself && a.rival.node != name {
				return
			}
			a.isFree()
			if err != nil {
				a.retry()
				return
			}
			a.reconcile()
		})
	}
}

// bereave gives back what is SENT by a node that is gone.
func (a *actor) bereave(node string) {
	for _, id := range a.sent() {
		c := a.find(id)
		if c == nil || c.state.State != device.StateSent || c.events[len(c.events)-1].Node != node {
			continue
		}
		if !a.lose(c, "node lost") {
			return
		}
	}
	a.pump()
}
