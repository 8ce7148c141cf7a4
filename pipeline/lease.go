package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
)

// Leases say which session is a device's newest. They are messages of a stream
// in memory, one a device: taking a lease is publishing, and the message's
// sequence is its epoch. When the servers are restarted the stream is gone and
// is made anew, beginning at the next generation's first sequence; generations
// are counted by a stream on disk. So one number orders all leases ever taken,
// and no node can mistake an old stream for the new one.
//
// A lease is worth what its node's incarnation is: who has ended (nodes.go) holds
// none, whatever the stream says.
//
// With an embedded server there is no other node to be told, and no stream: a
// counter in this process gives the epochs, in a generation that begins with it.
const revisionBits = 40 // a generation has room for 10^12 leases

// releasedFor is how long the mark of a lease given back is kept, for the nodes
// to see.
const releasedFor = time.Minute

// Leases gives out the epochs of sessions; the command room states what it
// wants of them.
type Leases struct{ b *Belt }

// Leases makes what is missing and answers the belt's leases.
func (b *Belt) Leases(ctx context.Context) (Leases, error) {
	l := Leases{b}
	if b.opts.Server != nil {
		return l, wrapLease(b.ownEpochs.begin(ctx, b))
	}
	return l, l.ensure(ctx)
}

// epochs counts the leases of the only node, from the first of a generation.
type epochs struct {
	mu   sync.Mutex
	last uint64 // sequence; 0: the generation is not known yet
}

func (e *epochs) begin(ctx context.Context, b *Belt) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last != 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, makingPatience)
	defer cancel()
	first, err := b.nextGeneration(ctx)
	if err == nil {
		e.last = first - 1
	}
	return err
}

func (e *epochs) next() device.Epoch {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last++
	return epochOf(e.last)
}

// leaseBody is a lease, or the mark of one given back.
type leaseBody struct {
	Node        string          `json:"node,omitempty"`
	Incarnation string          `json:"incarnation,omitempty"`
	Protocol    device.Protocol `json:"protocol,omitempty"`
	Client      string          `json:"client,omitempty"`
	Via         string          `json:"via,omitempty"`
	Since       time.Time       `json:"since,omitzero"`
	Released    bool            `json:"released,omitempty"`
}

// LeaseNews is what became of a device's lease.
type LeaseNews struct {
	Device   device.ID
	Epoch    device.Epoch
	Node     string // who took it
	Via      string // the gateway it was taken for; "" for the device itself
	Ours     bool   // by this incarnation of this node
	Released bool   // given back: nobody has it
}

// Take makes s, which lives on node, the device's newest session. That of a gateway
// answers Conflict while the device itself holds the lease on another living node.
func (l Leases) Take(ctx context.Context, s device.Session, node string) (device.Epoch, error) {
	if l.b.opts.Server != nil {
		return l.b.ownEpochs.next(), nil
	}
	return l.take(ctx, s, node)
}

func (l Leases) take(ctx context.Context, s device.Session, node string) (device.Epoch, error) {
	body := leaseBody{Node: node, Protocol: s.Protocol, Client: s.Client, Via: s.Via, Since: time.Now().UTC()}
	if n := l.b.node; n != nil {
		var err error
		if body.Incarnation, err = n.Acting(); err != nil {
			return device.Epoch{}, err
		}
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return device.Epoch{}, err
	}
	for {
		var only []jetstream.PublishOpt
		if s.Via != "" && l.b.node != nil {
			last, err := l.leave(ctx, s.Device)
			if err != nil {
				return device.Epoch{}, err
			}
			only = append(only, jetstream.WithExpectLastSequencePerSubject(last))
		}
		ack, err := l.b.js.Publish(ctx, leaseSubject(s.Device), raw, only...)
		switch {
		case err == nil:
			return epochOf(ack.Sequence), nil
		case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
			if err := l.ensure(ctx); err != nil {
				return device.Epoch{}, err
			}
		case len(only) == 0 || !isWrongLast(err):
			return device.Epoch{}, fmt.Errorf("pipeline: take the lease of %s: %w", s.Device, err)
		}
	}
}

// leave answers the sequence of the device's newest lease, 0 for none, unless the
// device itself holds it on another living node: Conflict.
func (l Leases) leave(ctx context.Context, id device.ID) (uint64, error) {
	m, err := l.b.leaderGet(ctx, LeaseStream, map[string]any{"last_by_subj": leaseSubject(id)})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, l.ensure(ctx)
	}
	if err != nil || m.Seq == 0 {
		return 0, err
	}
	var body leaseBody
	if err := json.Unmarshal(m.Data, &body); err != nil {
		return m.Seq, nil // not written by us
	}
	ours := body.Incarnation == l.b.node.Info().Incarnation
	if body.Via == "" && !body.Released && !ours && l.b.node.Lives(body.Incarnation) {
		return 0, device.Errorf(device.Conflict, "%s itself is connected to node %q", id, body.Node)
	}
	return m.Seq, nil
}

// Release gives a lease back; a newer one stays.
func (l Leases) Release(ctx context.Context, id device.ID, e device.Epoch) error {
	if e == (device.Epoch{}) || l.b.opts.Server != nil {
		return nil
	}
	body := leaseBody{Node: l.b.opts.NodeName, Released: true}
	if n := l.b.node; n != nil {
		body.Incarnation = n.Info().Incarnation
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	_, err = l.b.js.Publish(ctx, leaseSubject(id), raw,
		jetstream.WithExpectLastSequencePerSubject(sequenceOf(e)), jetstream.WithMsgTTL(releasedFor))
	switch {
	case err == nil, isWrongLast(err), errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return nil
	}
	return fmt.Errorf("pipeline: release the lease of %s: %w", id, err)
}

// Follow calls fn with every lease that is taken or given back after the call
// of ready, in order, until ctx ends. With an embedded server there is nothing to tell.
func (l Leases) Follow(ctx context.Context, ready func(), fn func(LeaseNews)) error {
	if l.b.opts.Server != nil {
		return idle(ctx, ready)
	}
	s, err := l.b.rjs.Stream(ctx, LeaseStream)
	if err != nil {
		return wrapLease(err)
	}
	next := s.CachedInfo().State.LastSeq + 1
	ready()
	return l.b.read(ctx, LeaseStream, next, nil, func(r raw) error {
		id, err := parseDeviceSubject(leaseRoot, r.subject)
		var body leaseBody
		if err != nil || json.Unmarshal(r.body, &body) != nil {
			return nil // not written by us
		}
		ours := l.b.node == nil && body.Node == l.b.opts.NodeName
		if n := l.b.node; n != nil {
			ours = body.Incarnation == n.Info().Incarnation
		}
		fn(LeaseNews{Device: id, Epoch: epochOf(r.seq), Node: body.Node, Via: body.Via, Ours: ours, Released: body.Released})
		return nil
	})
}

// ensure makes the stream of leases when it is not there, under a new
// generation. Of two nodes that do so at once one succeeds, and either
// generation is a new one.
func (l Leases) ensure(ctx context.Context) error {
	return wrapLease(l.b.ensureCounted(ctx, jetstream.StreamConfig{
		Name: LeaseStream, Subjects: []string{leaseRoot + everything}, Storage: jetstream.MemoryStorage,
		MaxMsgsPerSubject: 1, Replicas: l.b.opts.Replicas, AllowMsgTTL: true,
	}))
}

// ensureCounted makes a stream that may be lost, when it is not there. Its
// sequences begin at a generation of their own, above all of the streams of
// that name before it.
func (b *Belt) ensureCounted(ctx context.Context, cfg jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, makingPatience)
	defer cancel()
	err := b.there(ctx, cfg)
	if err == nil || !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	if cfg.FirstSeq, err = b.nextGeneration(ctx); err != nil {
		return err
	}
	_, err = b.js.CreateStream(ctx, cfg)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return nil
	}
	return err
}

// nextGeneration begins a generation, durably, and answers its first sequence.
func (b *Belt) nextGeneration(ctx context.Context) (uint64, error) {
	_, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: GenerationStream, Subjects: []string{generationSubject}, Storage: jetstream.FileStorage,
		MaxMsgsPerSubject: 1, Replicas: b.opts.Replicas,
	})
	if err != nil {
		return 0, err
	}
	ack, err := b.js.Publish(ctx, generationSubject, []byte(b.opts.NodeName))
	if err != nil {
		return 0, err
	}
	return sequenceOf(device.Epoch{Generation: ack.Sequence, Revision: 1}), nil
}

// idle is following what nobody else can write: it is ready, and waits for the end.
func idle(ctx context.Context, ready func()) error {
	ready()
	<-ctx.Done()
	return nil
}

// ensureDisposable makes a stream that may be lost, when it is not there.
func (b *Belt) ensureDisposable(ctx context.Context, cfg jetstream.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, makingPatience)
	defer cancel()
	err := b.there(ctx, cfg)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = b.js.CreateStream(ctx, cfg)
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return nil
	}
	return err
}

// there answers jetstream.ErrStreamNotFound when a stream is not there. One that an
// earlier release made may lack what its messages' lifetimes need.
func (b *Belt) there(ctx context.Context, cfg jetstream.StreamConfig) error {
	s, err := b.js.Stream(ctx, cfg.Name)
	if err == nil && cfg.AllowMsgTTL && !s.CachedInfo().Config.AllowMsgTTL {
		next := s.CachedInfo().Config
		next.AllowMsgTTL = true
		_, err = b.js.UpdateStream(ctx, next)
	}
	return err
}

func wrapLease(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("pipeline: open the leases: %w", err)
}

func epochOf(seq uint64) device.Epoch {
	return device.Epoch{Generation: seq >> revisionBits, Revision: seq & (1<<revisionBits - 1)}
}

func sequenceOf(e device.Epoch) uint64 { return e.Generation<<revisionBits | e.Revision }
