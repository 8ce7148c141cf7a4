package amqp

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
)

// replyRoot begins the addresses of dynamic nodes; no device's name begins so.
const replyRoot = "$reply/"

// maxReplyBytes is the bytes of answers a reply node holds at most.
const maxReplyBytes = 4 << 20

// replies is where answers go: nodes in memory, each fed to one link, and through the
// house those of other servers. A node is its tenant's, and nobody else finds it.
type replies struct {
	far adapters.Replies // nil: there are no others

	mu    sync.Mutex
	nodes map[replyKey]*replyNode
	away  map[replyKey]int // commands whose answers go to another server
}

// answerer is where the answers to a command go.
type answerer interface {
	tell(p parcel, failed func(error))
	await(ctx context.Context) (release func(), err error) // counts one more command, until released
	context() context.Context                              // ends when nobody is there to be told
}

type replyKey struct{ tenant, address string }

// replyNode is the supply of one link.
type replyNode struct {
	key    replyKey
	window int // Config.ReplyWindow
	all    *replies
	offer  func(parcel)
	stolen func()          // the link is told that a newer one has taken its address
	leave  func()          // the other servers know of it no more
	ctx    context.Context // ends with the node

	cancel context.CancelFunc
	order  sync.Mutex // held while offering, one after another; taken before mu
	mu     sync.Mutex
	queue  []parcel
	bytes  int
	asked  int
	awaits int
	held   map[uint64]func(device.Outcome, func(error)) // not settled, in the queue or offered
	next   uint64                                       // of held
}

// dynamic makes a node for the link, at an address only its owner knows (part 3,
// section 5.3).
func (l *outLink) dynamic() *wire.Source {
	at := replyRoot + rand.Text()
	l.source = func(generation int) (supply, error) { return l.reply(at, generation) }
	return &wire.Source{Address: wire.Some(at), Dynamic: true, ExpiryPolicy: "link-detach"}
}

// answers makes a node at the address {application}/responses.
func (l *outLink) answers(from address, at string) error {
	p := l.s.c.principal
	if _, err := p.Oversees(from.device); err != nil {
		return device.Errorf(device.Forbidden, "a device receives from its commands only")
	}
	if !p.Open && from.device != "" && from.device != p.ID.Device {
		return device.Errorf(device.Forbidden, "%s receives its own responses only", p.ID)
	}
	name := from.device
	if name == "" {
		name = p.ID.Device
	}
	if name == "" {
		return device.Errorf(device.Invalid, "%q names nobody: receive from {application}/responses", at)
	}
	l.source = func(generation int) (supply, error) {
		return l.reply(replyAddress(device.ID{Device: name}), generation)
	}
	return nil
}

func (l *outLink) reply(at string, generation int) (supply, error) {
	c := l.s.c
	n := &replyNode{key: replyKey{c.principal.ID.Tenant, at}, window: c.cfg.ReplyWindow, all: &c.server.replies, leave: func() {}, held: map[uint64]func(device.Outcome, func(error)){}}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.offer = func(p parcel) { l.offer(generation, p) }
	n.stolen = func() { l.cut(generation, errStolen) }
	if err := n.listen(c); err != nil {
		return nil, err
	}
	n.all.mu.Lock()
	older := n.all.nodes[n.key]
	if n.all.nodes == nil {
		n.all.nodes = map[replyKey]*replyNode{}
	}
	n.all.nodes[n.key] = n
	n.all.mu.Unlock()
	if older != nil {
		go older.stolen()
	}
	return n, nil
}

// find answers the node of an address at this server, or nil.
func (r *replies) find(tenant, at string) *replyNode {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nodes[replyKey{tenant, strings.TrimPrefix(at, "/")}]
}

// Request implements supply.
func (n *replyNode) Request(more int) {
	n.mu.Lock()
	n.asked += more
	n.mu.Unlock()
	n.pump()
}

// Recall implements recaller.
func (n *replyNode) Recall() {
	n.mu.Lock()
	n.asked = 0
	n.mu.Unlock()
}

// Detach implements supply.
func (n *replyNode) Detach(reason string) {
	n.all.mu.Lock()
	if n.all.nodes[n.key] == n {
		delete(n.all.nodes, n.key)
	}
	n.all.mu.Unlock()
	n.leave()
	n.cancel()
	n.mu.Lock()
	held := n.held
	n.held, n.queue, n.bytes, n.asked = nil, nil, 0, 0
	n.mu.Unlock()
	for _, settle := range held {
		settle(device.Outcome{Kind: device.Released, Reason: reason}, nil)
	}
}

// hold has p settled once: by the peer, or when the node ends. The caller holds mu.
func (n *replyNode) hold(p *parcel) {
	n.next++
	id, settle := n.next, p.settle
	n.held[id] = settle
	p.settle = func(o device.Outcome, done func(error)) {
		n.mu.Lock()
		_, first := n.held[id]
		delete(n.held, id)
		n.mu.Unlock()
		switch {
		case first:
			settle(o, done)
		case done != nil:
			done(nil)
		}
	}
}

// put gives the node an answer. Busy when it holds too many already.
func (n *replyNode) put(p parcel) error {
	if err := n.keep(p); err != nil {
		return err
	}
	n.pump()
	return nil
}

// tell implements answerer.
func (n *replyNode) tell(p parcel, failed func(error)) {
	if err := n.put(p); err != nil {
		failed(err)
	}
}

func (n *replyNode) keep(p parcel) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.ctx.Err() != nil:
		return device.Errorf(device.NotFound, "the receiver of %.300q has gone", n.key.address)
	case len(n.queue) >= n.window || n.bytes+len(p.data) > maxReplyBytes:
		return device.Errorf(device.Busy, "the receiver of %.300q takes nothing", n.key.address)
	}
	n.hold(&p)
	n.queue = append(n.queue, p)
	n.bytes += len(p.data)
	return nil
}

// pump offers what was asked for.
func (n *replyNode) pump() {
	n.order.Lock()
	defer n.order.Unlock()
	for {
		p, ok := n.take()
		if !ok {
			return
		}
		n.offer(p)
	}
}

func (n *replyNode) take() (p parcel, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.asked == 0 || len(n.queue) == 0 {
		return p, false
	}
	p = n.queue[0]
	n.queue[0] = parcel{}
	n.queue = n.queue[1:]
	n.bytes -= len(p.data)
	n.asked--
	return p, true
}

// await implements answerer.
func (n *replyNode) await(context.Context) (release func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.awaits >= n.window {
		return nil, device.Errorf(device.Busy, "%d commands with this reply-to have not ended", n.awaits)
	}
	n.awaits++
	return func() {
		n.mu.Lock()
		n.awaits--
		n.mu.Unlock()
	}, nil
}

// context implements answerer.
func (n *replyNode) context() context.Context { return n.ctx }

// relay gives a message as it is to the link of a dynamic node. What becomes of
// it there is what its sender is told: the peers settle end to end.
func (c *conn) relay(d *delivery, to string, done func(error)) error {
	tenant, all := c.principal.ID.Tenant, &c.server.replies
	n := all.find(tenant, to)
	if n == nil && all.far == nil {
		return nobody(to)
	}
	if n == nil {
		all.far.Send(tenant, strings.TrimPrefix(to, "/"), d.data, done)
		return nil
	}
	return n.put(parcel{data: d.data, counter: c.metrics.repliesOut, settle: func(o device.Outcome, confirm func(error)) {
		done(relayed(o))
		if confirm != nil {
			confirm(nil)
		}
	}})
}

// relayed is what the sender is told of a receiver's outcome.
func relayed(o device.Outcome) error {
	switch o.Kind {
	case device.Accepted, device.Unconfirmed:
		return nil
	case device.Rejected:
		return device.Errorf(device.Invalid, "the receiver rejected it: %s", o.Reason)
	}
	return device.Errorf(device.Unavailable, "the receiver gave it back: %s", o.Reason)
}
