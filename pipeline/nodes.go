package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/tributary-iot/tributary/device"
)

// NodeOptions say who this node is among those that share a NATS server.
type NodeOptions struct {
	Identity string            // of the data directory: tells an earlier life of this node from another of the same name
	Roles    []string          // what it runs, for the others to see
	Reached  map[string]string // where devices reach its doors, by door: for the others to send them here; may be empty
	Timeout  time.Duration     // a node that is silent for so long is dead; default 10 s
}

// NodeInfo is one node as the others see it.
type NodeInfo struct {
	Name        string            `json:"name"`
	Incarnation string            `json:"incarnation"`
	Identity    string            `json:"identity"`
	Roles       []string          `json:"roles"`
	Reached     map[string]string `json:"reached,omitempty"` // NodeOptions.Reached
	Since       time.Time         `json:"since"`
}

// nodeBody is a message of a node's subject: a beat, or the end.
type nodeBody struct {
	NodeInfo
	Beat  uint64 `json:"beat"`
	Ended string `json:"ended,omitempty"` // why; after it nothing of this incarnation counts
	By    string `json:"by,omitempty"`    // who said so
}

// Node is this process's place among the others. It lives in incarnations: one
// ends for good with a message on its subject, written by the node that leaves
// or by another that has not heard of it for Timeout. Each message is stored
// only if it follows the one its writer knew (compare-and-set), so that a beat
// and an end cannot both follow the same beat: the stream decides who was first.
//
// A node acts for half of Timeout after it sent a beat that was stored; then it
// stops, and is long silent when others may end it. A node that could not renew
// in time begins a new incarnation with none of its sessions.
type Node struct {
	b    *Belt
	opts NodeOptions
	solo bool

	mu      sync.Mutex
	self    NodeInfo
	beat    uint64
	seq     uint64               // of our newest message
	sent    map[uint64]time.Time // when a beat was sent, until it is read back
	renewed time.Time            // when the newest stored beat was sent; zero: this incarnation may not act
	peers   map[string]*nodePeer // living incarnations, ours not among them
	onLost  []func()
	onGone  []func(NodeInfo)

	stop context.CancelFunc
	wg   sync.WaitGroup
}

type nodePeer struct {
	NodeInfo
	seq   uint64
	heard time.Time
}

// Join enters this node among those of its NATS server. With an embedded server
// there can be no other, and nothing is written. A living node of the same name
// but another data directory is an error. Leave ends it.
func (b *Belt) Join(ctx context.Context, o NodeOptions) (*Node, error) {
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	n := &Node{b: b, opts: o, solo: b.opts.Server != nil, peers: map[string]*nodePeer{}, stop: func() {}}
	n.renew()
	b.node = n
	if n.solo {
		return n, nil
	}
	if err := n.join(ctx); err != nil {
		return nil, fmt.Errorf("pipeline: join the other nodes: %w", err)
	}
	return n, nil
}

func (n *Node) join(ctx context.Context) error {
	if err := n.b.ensureNodes(ctx); err != nil {
		return err
	}
	if err := n.answerEchoes(); err != nil {
		return err
	}
	run, stop := context.WithCancel(context.Background())
	n.stop = stop
	last := uint64(0)
	err := n.b.readSubject(ctx, NodeStream, nodeRoot+everything, func(r raw) { last = r.seq; n.hear(r) })
	if err != nil {
		stop()
		return err
	}
	n.wg.Go(func() { _ = n.b.read(run, NodeStream, last+1, []string{nodeRoot + everything}, n.follow) })
	if err := n.claimName(ctx); err != nil {
		n.stopAll()
		return err
	}
	if err := n.pulse(ctx); err != nil {
		n.stopAll()
		return err
	}
	n.wg.Go(func() { n.keepAlive(run) })
	return nil
}

// claimName ends an earlier life of this node, and returns once that is heard:
// what it held is free then. It makes sure that no other node has its name: what
// a node had sent is found again by the name.
func (n *Node) claimName(ctx context.Context) error {
	patience := time.Now().Add(n.opts.Timeout + n.opts.Timeout/2)
	first, ended := map[string]uint64{}, map[string]uint64{}
	for {
		var other *nodePeer
		earlier := false
		for _, p := range n.living() {
			if p.Name != n.self.Name {
				continue
			}
			if p.Identity == n.self.Identity || time.Since(p.heard) > n.opts.Timeout {
				if earlier = true; ended[p.Incarnation] == p.seq {
					continue
				}
				if err := n.finish(ctx, p, "restarted"); err != nil {
					return err
				}
				ended[p.Incarnation] = p.seq
				continue
			}
			other = &p
		}
		if other == nil && !earlier {
			return nil
		}
		if other == nil {
			if !sleep(ctx, 5*time.Millisecond) {
				return ctx.Err()
			}
			continue
		}
		if seen, ok := first[other.Incarnation]; ok && other.seq > seen+1 || time.Now().After(patience) {
			return fmt.Errorf("a node named %q is here already, since %s: give each node its own name with --node",
				other.Name, other.Since.Format(time.RFC3339))
		} else if !ok {
			first[other.Incarnation] = other.seq
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// renew begins a new incarnation; it acts once its first beat is stored.
func (n *Node) renew() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.self = NodeInfo{Name: n.b.opts.NodeName, Incarnation: nuid.Next(), Identity: n.opts.Identity, Roles: n.opts.Roles, Reached: n.opts.Reached, Since: time.Now().UTC()}
	n.beat, n.seq, n.sent, n.renewed = 0, 0, map[uint64]time.Time{}, time.Time{}
}

// Acting answers the incarnation under which this node acts now, or an error of
// code Unavailable: it is cut off, and others may be taking over.
func (n *Node) Acting() (incarnation string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.solo || !n.renewed.IsZero() && time.Since(n.renewed) < n.opts.Timeout/2 {
		return n.self.Incarnation, nil
	}
	return "", device.Errorf(device.Unavailable, "this server is cut off from the others: try again, or another one")
}

// Info is this node as the others see it.
func (n *Node) Info() NodeInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.self
}

// Nodes is every living node, this one included, by name.
func (n *Node) Nodes() []NodeInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := []NodeInfo{n.self}
	for _, p := range n.peers {
		all = append(all, p.NodeInfo)
	}
	slices.SortFunc(all, func(a, b NodeInfo) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Incarnation, b.Incarnation))
	})
	return all
}

// Elsewhere is where devices reach a door on another living node, any of them; ""
// when none has said so.
func (n *Node) Elsewhere(door string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.peers { // in no order: who is sent away is spread
		if at := p.Reached[door]; at != "" {
			return at
		}
	}
	return ""
}

// Lives reports whether an incarnation has not ended, as far as this node heard.
func (n *Node) Lives(incarnation string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.self.Incarnation == incarnation || n.peers[incarnation] != nil
}

// Elder reports whether this node is the one that does what one node has to do
// for all. For a moment two may think so.
func (n *Node) Elder() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for incarnation := range n.peers {
		if incarnation < n.self.Incarnation {
			return false
		}
	}
	return true
}

// OnLost asks for a call when this node has lost its place: it must end every
// session. OnGone asks for one when another incarnation has ended. Both are
// called from another goroutine and must not block for long.
func (n *Node) OnLost(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.onLost = append(n.onLost, f)
}

// OnGone is described at OnLost.
func (n *Node) OnGone(f func(NodeInfo)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.onGone = append(n.onGone, f)
}

func (n *Node) living() (all []nodePeer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.peers {
		all = append(all, *p)
	}
	return all
}

// Agree makes sure that all nodes of the NATS server say the same of a thing:
// the first to say it decides for good. The error is of code Conflict.
func (n *Node) Agree(ctx context.Context, thing, value string) error {
	if n.solo {
		return nil
	}
	subject := string(appendLevel([]byte(agreedRoot+"."), thing, subjectEscape))
	_, err := n.b.js.Publish(ctx, subject, []byte(value), jetstream.WithExpectLastSequencePerSubject(0))
	if !isWrongLast(err) {
		return err
	}
	agreed := ""
	if err := n.b.readSubject(ctx, NodeStream, subject, func(r raw) { agreed = string(r.body) }); err != nil {
		return err
	}
	if agreed != value {
		return device.Errorf(device.Conflict, "the nodes of this NATS server have agreed on another %s", thing)
	}
	return nil
}

// Leave ends this node's incarnation, so that the others need not wait. The
// sessions have ended before. A second call does nothing.
func (n *Node) Leave(ctx context.Context) error {
	n.stopAll()
	n.mu.Lock()
	me := nodePeer{NodeInfo: n.self, seq: n.seq}
	n.renewed = time.Time{}
	n.seq = 0
	n.mu.Unlock()
	if n.solo || me.seq == 0 {
		return nil
	}
	return n.finish(ctx, me, "left")
}

func (n *Node) stopAll() {
	n.stop()
	n.wg.Wait()
}

// finish ends an incarnation, unless it was heard of since.
func (n *Node) finish(ctx context.Context, p nodePeer, why string) error {
	body, err := json.Marshal(nodeBody{NodeInfo: p.NodeInfo, Ended: why, By: n.b.opts.NodeName})
	if err != nil {
		return err
	}
	_, err = n.b.js.Publish(ctx, nodeSubject(&p.NodeInfo), body, jetstream.WithExpectLastSequencePerSubject(p.seq))
	if isWrongLast(err) {
		return nil // it lives, or somebody else was first: the stream will tell
	}
	return err
}
