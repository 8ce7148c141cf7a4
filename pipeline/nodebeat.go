package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ensureNodes makes the stream of nodes and of the stores they serve. It is on
// disk: a restart of the servers must not end every session.
func (b *Belt) ensureNodes(ctx context.Context) error {
	b.watch.keep(NodeStream)
	ctx, cancel := context.WithTimeout(ctx, makingPatience)
	defer cancel()
	_, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: NodeStream, Subjects: []string{nodeRoot + everything, storeRoot + everything, agreedRoot + everything}, Storage: jetstream.FileStorage,
		MaxMsgsPerSubject: 1, Replicas: b.opts.Replicas, AllowDirect: true,
	})
	return err
}

// keepAlive beats six times in Timeout, and stops acting when that fails for
// half of it.
func (n *Node) keepAlive(ctx context.Context) {
	pause := n.opts.Timeout / 6
	for sleep(ctx, pause) {
		beat, cancel := context.WithTimeout(ctx, n.opts.Timeout/6)
		err := n.pulse(beat)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if pause = n.opts.Timeout / 6; err != nil {
			pause /= 8 // half the time-out is soon over
		}
		_, cut := n.Acting()
		if cut == nil && !errors.Is(err, errEnded) {
			continue
		}
		n.b.log.Error("this node has lost its place among the others: its sessions end", "node", n.b.opts.NodeName, "error", err)
		n.lose(ctx)
	}
}

// errEnded means that our incarnation has ended.
var errEnded = errors.New("this node was declared dead")

// lose ends the sessions and begins anew.
func (n *Node) lose(ctx context.Context) {
	n.mu.Lock()
	old := nodePeer{NodeInfo: n.self, seq: n.seq}
	hooks := n.onLost
	n.renewed = time.Time{}
	n.mu.Unlock()
	for _, f := range hooks {
		f()
	}
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, n.opts.Timeout/2)
		err := n.finish(try, old, "cut off")
		if err == nil {
			n.renew()
			err = n.pulse(try)
		}
		cancel()
		if err == nil {
			n.b.log.Info("this node is among the others again", "node", n.b.opts.NodeName)
			return
		}
		sleep(ctx, min(n.opts.Timeout/6, time.Second))
	}
}

// pulse publishes one beat. A beat whose answer was lost is found again.
func (n *Node) pulse(ctx context.Context) error {
	n.mu.Lock()
	n.beat++
	at, beat, seq, self := time.Now(), n.beat, n.seq, n.self
	n.sent[beat] = at
	n.mu.Unlock()
	body, err := json.Marshal(nodeBody{NodeInfo: self, Beat: beat})
	if err != nil {
		return err
	}
	ack, err := n.b.js.Publish(ctx, nodeSubject(&self), body, jetstream.WithExpectLastSequencePerSubject(seq))
	if isWrongLast(err) {
		return n.catchUp(ctx, &self, beat)
	}
	if err != nil {
		return err
	}
	n.stored(beat, ack.Sequence, at)
	return nil
}

// catchUp looks at what follows the beat we knew: one of ours, or our end.
func (n *Node) catchUp(ctx context.Context, self *NodeInfo, beat uint64) error {
	s, err := n.b.js.Stream(ctx, NodeStream)
	if err != nil {
		return err
	}
	m, err := s.GetLastMsgForSubject(ctx, nodeSubject(self))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return errEnded // the stream was lost, or its tail
	}
	if err != nil {
		return err
	}
	var last nodeBody
	if err := json.Unmarshal(m.Data, &last); err != nil || last.Ended != "" {
		return errEnded
	}
	n.mu.Lock()
	at, known := n.sent[last.Beat], n.seq
	n.mu.Unlock()
	if m.Sequence <= known {
		return errors.New("a replica that is behind was asked") // the next beat asks again
	}
	n.stored(last.Beat, m.Sequence, at)
	return nil
}

func (n *Node) stored(beat, seq uint64, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seq = max(n.seq, seq)
	if at.After(n.renewed) {
		n.renewed = at
	}
	for old := range n.sent {
		if old+16 < beat {
			delete(n.sent, old)
		}
	}
}

// follow takes what is written after we joined, in the order of the stream.
// Reading back a beat of ours that was sent Timeout after a peer was last heard
// proves that the peer has written nothing in between.
func (n *Node) follow(r raw) error {
	mine, gone := n.hear(r)
	if gone != nil {
		n.mu.Lock()
		hooks := n.onGone
		n.mu.Unlock()
		n.b.log.Info("a node is gone", "node", gone.Name, "incarnation", gone.Incarnation)
		for _, f := range hooks {
			go f(*gone)
		}
	}
	if mine.IsZero() {
		return nil
	}
	for _, p := range n.living() {
		if mine.Sub(p.heard) < n.opts.Timeout {
			continue
		}
		n.b.log.Warn("a node is silent: it is taken for dead", "node", p.Name, "silent_for", mine.Sub(p.heard).Round(time.Millisecond))
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), n.opts.Timeout/2)
			defer cancel()
			if err := n.finish(ctx, p, "silent"); err != nil {
				n.b.log.Warn("a silent node could not be declared dead; trying again", "node", p.Name, "error", err)
			}
		}()
	}
	return nil
}

// hear takes one message; mine is when it was sent if it is a beat of ours.
func (n *Node) hear(r raw) (mine time.Time, gone *NodeInfo) {
	var body nodeBody
	if err := json.Unmarshal(r.body, &body); err != nil || nodeSubject(&body.NodeInfo) != r.subject {
		return mine, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case body.Incarnation == n.self.Incarnation:
		return n.sent[body.Beat], nil
	case body.Ended != "":
		if n.peers[body.Incarnation] == nil {
			return mine, nil
		}
		delete(n.peers, body.Incarnation)
		return mine, &body.NodeInfo
	}
	n.peers[body.Incarnation] = &nodePeer{NodeInfo: body.NodeInfo, seq: r.seq, heard: time.Now()}
	return mine, nil
}

// isWrongLast reports a compare-and-set that somebody else won.
func isWrongLast(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == codeWrongLastSequence || api.ErrorCode == codeWrongLastSequenceConstant)
}
