package command_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/device"
)

// What the simulation is made of: nodes that run the very Service of production on
// the clock of testing/synctest, a network that is late, and doors that come and go.

// sim is one schedule.
type sim struct {
	t     *testing.T
	rng   *rand.Rand
	b     *belt
	nodes []*simNode
	lag   time.Duration // of what nodes hear of the streams and of one another

	mu      sync.Mutex
	offered map[offer]int // how often; more than once is a fault
	ids     []string
}

// offer is one delivery, whoever got it.
type offer struct {
	id      string
	attempt int
}

// simTimeout is after how long a node that is silent counts as dead.
const simTimeout = 10 * time.Second

// simNode is a node; its service is another after it was killed.
type simNode struct {
	sim   *sim
	name  string
	alone bool
	s     *command.Service // nil while it is dead
	life  atomic.Int64     // negative while it is cut off from the others
	doors []*simDoor
}

// simDoor is a session as an adapter has it.
type simDoor struct {
	node *simNode
	id   device.ID
	at   adapters.Attachment
	mu   sync.Mutex
	has  []device.Delivery
	lost bool
}

// lateLog and lateMailbox are the streams as a node hears of them: late.
type lateLog struct {
	*eventLog
	lag time.Duration
}

type lateMailbox struct {
	mailbox
	lag time.Duration
}

func (l lateLog) Follow(ctx context.Context, after uint64, fn func(device.StoredEvent)) error {
	return l.stream.Follow(ctx, after, late(ctx, l.lag, fn))
}

func (m lateMailbox) Follow(ctx context.Context, after uint64, fn func(device.StoredEvent)) error {
	return m.stream.Follow(ctx, after, late(ctx, m.lag, fn))
}

func late(ctx context.Context, lag time.Duration, fn func(device.StoredEvent)) func(device.StoredEvent) {
	return func(ev device.StoredEvent) {
		select {
		case <-time.After(time.Until(ev.StoredAt.Add(lag))):
			fn(ev)
		case <-ctx.Done():
		}
	}
}

// toldLeases tells the other nodes of every lease, late.
type toldLeases struct {
	*leases
	node *simNode
}

func (l toldLeases) Take(ctx context.Context, s device.Session, node string) (device.Epoch, error) {
	e, err := l.leases.Take(ctx, s, node)
	if err != nil {
		return e, err
	}
	l.node.others(func(s2 *command.Service) { s2.TakenElsewhere(s.Device, e, node, s.Via == "") })
	return e, err
}

func (l toldLeases) Release(ctx context.Context, id device.ID, e device.Epoch) error {
	l.mu.Lock()
	held := l.held[id].epoch == e
	l.mu.Unlock()
	if held {
		l.node.others(func(s *command.Service) { s.FreedElsewhere(id) })
	}
	return l.leases.Release(ctx, id, e)
}

// others tells every other living node, once the network has got it there.
func (n *simNode) others(tell func(*command.Service)) {
	time.AfterFunc(n.sim.lag, func() {
		n.sim.mu.Lock()
		defer n.sim.mu.Unlock()
		for _, other := range n.sim.nodes {
			if other != n && other.s != nil {
				tell(other.s)
			}
		}
	})
}

// start brings a node to life.
func (n *simNode) start() {
	n.life.Store(1 + max(n.life.Load(), -n.life.Load()))
	b, t := n.sim.b, n.sim.t
	s, err := command.New(command.Config{
		Node: n.name, Alone: n.alone, Stored: b.store.stored, PurgeStep: 1, SweepEvery: 10 * time.Second /* it is most of what an idle node does */, Logger: slog.New(slog.DiscardHandler),
		Acting: func() (string, error) {
			if life := n.life.Load(); life > 0 {
				return time.Duration(life).String(), nil
			}
			return "", device.Errorf(device.Unavailable, "cut off")
		},
	}, lateLog{b.log, n.sim.lag}, lateMailbox{b.mailbox, n.sim.lag}, toldLeases{b.leases, n}, b.store)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.sim.mu.Lock()
	n.s = s
	n.sim.mu.Unlock()
}

// kill ends a node without a word; the others hear of it after the time-out.
func (n *simNode) kill() {
	n.sim.mu.Lock()
	s := n.s
	n.s = nil
	n.sim.mu.Unlock()
	n.doors = nil
	n.sim.b.leases.died(n.name)
	shut(n.sim.t, s)
	n.declaredDead()
}

func (n *simNode) declaredDead() {
	life := n.life.Load()
	time.AfterFunc(simTimeout, func() {
		n.others(func(s *command.Service) { s.NodeGone(n.name, func() bool { return n.life.Load() > max(life, -life) }) })
	})
}

// cut separates a node from the others for a while: it may not act, and when it is
// back its doors end the sessions they had.
func (n *simNode) cut(during time.Duration) {
	n.life.Store(-n.life.Load())
	if during > simTimeout/2 {
		n.declaredDead()
	}
	time.Sleep(during)
	n.life.Store(1 - n.life.Load())
	for len(n.doors) > 0 {
		n.leave(0)
	}
}

func (n *simNode) come(id device.ID, gateway string, credit int) {
	d := &simDoor{node: n, id: id}
	at, err := n.s.Attach(n.sim.t.Context(), device.Session{Device: id, Via: gateway, Protocol: device.MQTT}, d.offer, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.lost, d.has = true, nil
	})
	if err != nil {
		return // cut off, or faulty: the device would try again
	}
	d.at = at
	at.Request(credit)
	n.doors = append(n.doors, d)
}

func (n *simNode) leave(i int) {
	n.doors[i].at.Detach("gone")
	n.doors = append(n.doors[:i], n.doors[i+1:]...)
}

// offer holds what production promises of a delivery: it is SENT, durably, and
// nobody else is ever given it.
func (d *simDoor) offer(v device.Delivery) {
	s := d.node.sim
	s.mu.Lock()
	s.offered[offer{v.Command.ID, v.Attempt}]++
	s.mu.Unlock()
	sent := false
	for _, e := range s.b.log.of(d.id) {
		sent = sent || e.Command == v.Command.ID && e.State == device.StateSent && e.Attempt == v.Attempt && e.Node == d.node.name
	}
	if !sent {
		s.t.Errorf("%s was offered as attempt %d and is not so in the log", v.Command.ID, v.Attempt)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.has = append(d.has, v)
}

// act settles or answers what the device has.
func (d *simDoor) act(rng *rand.Rand) {
	d.mu.Lock()
	has := d.has
	d.has = nil
	d.mu.Unlock()
	for _, v := range has {
		kind := device.OutcomeKind(rng.IntN(5) + 1)
		d.at.Settle(v.Command.ID, v.Attempt, device.Outcome{Kind: kind}, nil)
		d.at.Request(1)
		if rng.IntN(2) == 0 {
			d.node.s.Respond(device.Response{Device: d.id, Command: v.Command.ID, Status: 200 + rng.IntN(2)*300, Protocol: device.MQTT}, nil)
		}
	}
}
