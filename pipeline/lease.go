package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
const revisionBits = 40 // a generation has room for 10^12 leases

// Leases gives out the epochs of sessions; the command room states what it
// wants of them.
type Leases struct{ b *Belt }

// Leases makes what is missing and answers the belt's leases.
func (b *Belt) Leases(ctx context.Context) (Leases, error) {
	l := Leases{b}
	return l, l.ensure(ctx)
}

// leaseBody is for the people who look; only the sequence counts.
type leaseBody struct {
	Node     string          `json:"node"`
	Protocol device.Protocol `json:"protocol"`
	Client   string          `json:"client,omitempty"`
	Via      string          `json:"via,omitempty"`
	Since    time.Time       `json:"since"`
}

// Take makes s, which lives on node, the device's newest session.
func (l Leases) Take(ctx context.Context, s device.Session, node string) (device.Epoch, error) {
	body, err := json.Marshal(leaseBody{Node: node, Protocol: s.Protocol, Client: s.Client, Via: s.Via, Since: time.Now().UTC()})
	if err != nil {
		return device.Epoch{}, err
	}
	ack, err := l.b.js.Publish(ctx, leaseSubject(s.Device), body)
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) {
		if err := l.ensure(ctx); err != nil {
			return device.Epoch{}, err
		}
		ack, err = l.b.js.Publish(ctx, leaseSubject(s.Device), body)
	}
	if err != nil {
		return device.Epoch{}, fmt.Errorf("pipeline: take the lease of %s: %w", s.Device, err)
	}
	return epochOf(ack.Sequence), nil
}

// Release gives a lease back; a newer one stays.
func (l Leases) Release(ctx context.Context, id device.ID, e device.Epoch) error {
	s, err := l.b.js.Stream(ctx, LeaseStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSubject(leaseSubject(id)), jetstream.WithPurgeSequence(sequenceOf(e)+1))
	}
	if err != nil {
		return fmt.Errorf("pipeline: release the lease of %s: %w", id, err)
	}
	return nil
}

// ensure makes the stream of leases when it is not there, under a new
// generation. Of two nodes that do so at once one succeeds, and either
// generation is a new one.
func (l Leases) ensure(ctx context.Context) error {
	_, err := l.b.js.Stream(ctx, LeaseStream)
	if err == nil || !errors.Is(err, jetstream.ErrStreamNotFound) {
		return wrapLease(err)
	}
	_, err = l.b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: GenerationStream, Subjects: []string{generationSubject}, Storage: jetstream.FileStorage,
		MaxMsgsPerSubject: 1, Replicas: l.b.opts.Replicas,
	})
	if err != nil {
		return wrapLease(err)
	}
	ack, err := l.b.js.Publish(ctx, generationSubject, []byte(l.b.opts.NodeName))
	if err != nil {
		return wrapLease(err)
	}
	_, err = l.b.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: LeaseStream, Subjects: []string{leaseRoot + everything}, Storage: jetstream.MemoryStorage,
		MaxMsgsPerSubject: 1, Replicas: l.b.opts.Replicas, FirstSeq: sequenceOf(device.Epoch{Generation: ack.Sequence, Revision: 1}),
	})
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return nil
	}
	return wrapLease(err)
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
