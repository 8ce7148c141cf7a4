package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
)

// Belt is an open pipeline.
type Belt struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics

	nc  *nats.Conn // publishing and requests
	js  jetstream.JetStream
	rnc *nats.Conn // reading: a slow reader never delays an acknowledgement
	rjs jetstream.JetStream

	telemetry, commands, events, letters, records *publisher
	topics, retained, sessions                    *publisher
	ears                                          ears // of what is cast on topics
	deadLetters                                   *deadLetters
	node                                          *Node     // nil before Join
	verifier                                      *verifier // nil: nobody looks at the server's settings
	watch                                         *streamWatch
	tail                                          *tail // nil unless this process alone publishes
	topicNotes                                    topicNotes
	room                                          *room
	grouping                                      sync.Mutex // held while a group of subscribers begins or ends
	ownEpochs                                     epochs     // of leases, with an embedded server

	maxBody   int // of an encoded message and its own headers
	closeOnce sync.Once
}

// Open connects, checks the server, makes missing streams and buckets and
// starts the publishers. ctx bounds the opening only. Close the Belt before
// the embedded server.
func Open(ctx context.Context, o Options) (*Belt, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Belt{opts: o, log: o.Logger, metrics: newMetrics(o.Registerer), watch: newStreamWatch()}
	if o.Server != nil {
		b.tail = newTail()
	}
	if err := b.open(ctx); err != nil {
		b.abandon()
		return nil, err
	}
	return b, nil
}

func (b *Belt) open(ctx context.Context) (err error) {
	if b.nc, err = b.connect("publish"); err != nil {
		return err
	}
	if err := checkServer(b.nc); err != nil {
		return err
	}
	if b.rnc, err = b.connect("read"); err != nil {
		return err
	}
	if b.js, err = jetstream.New(b.nc); err != nil {
		return err
	}
	if b.rjs, err = jetstream.New(b.rnc); err != nil {
		return err
	}
	if _, err := b.js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("pipeline: the NATS server gives this account no JetStream; enable it (jetstream {}) for the account: %w", err)
	}
	if err := b.ensureStreams(ctx); err != nil {
		return fmt.Errorf("pipeline: %w", err)
	}
	if b.opts.Server != nil {
		if err := b.opts.Server.Stage(); err != nil {
			return fmt.Errorf("pipeline: %w", err)
		}
	}
	if err := b.verify(ctx); err != nil {
		return fmt.Errorf("pipeline: %w", err)
	}
	b.maxBody = int(b.nc.MaxPayload()) - headerBytes
	b.opts.MaxMessageBytes = min(b.opts.MaxMessageBytes, int(b.nc.MaxPayload())-envelopeBytes)
	if err := b.openPublishers(ctx); err != nil {
		return err
	}
	if err := b.frameTopics(ctx); err != nil {
		return fmt.Errorf("pipeline: groups of subscribers: %w", err)
	}
	b.room, err = b.openRoom(ctx)
	return err
}

func (b *Belt) openPublishers(ctx context.Context) (err error) {
	for stream, p := range map[string]**publisher{
		TelemetryStream: &b.telemetry, CommandStream: &b.commands, CommandEventStream: &b.events, DeadLetterStream: &b.letters, DeviceStream: &b.records,
		TopicStream: &b.topics, RetainedStream: &b.retained, SessionStream: &b.sessions,
	} {
		if *p, err = b.openPublisher(ctx, stream); err != nil {
			return err
		}
	}
	b.deadLetters = b.openDeadLetters()
	return nil
}

// Durability is what an acknowledgement of this belt means.
func (b *Belt) Durability() Durability { return b.opts.Durability }

// MaxMessageBytes is the largest payload Submit takes: the configured limit or
// the server's, whichever is smaller.
func (b *Belt) MaxMessageBytes() int { return b.opts.MaxMessageBytes }

// alone reports whether the NATS server is this process's own, so that nobody else
// publishes or reads in the account of the streams.
func (b *Belt) alone() bool { return b.opts.Server != nil }

// Healthy says whether messages can be stored now.
func (b *Belt) Healthy() error {
	if b.opts.Server != nil {
		if err := b.opts.Server.Healthy(); err != nil {
			return err
		}
	}
	if err := b.Connected(); err != nil {
		return err
	}
	if err := cmp.Or(b.watch.says(), b.verifier.healthy()); err != nil {
		return fmt.Errorf("pipeline: %w", err)
	}
	for _, p := range []*publisher{b.telemetry, b.commands, b.events} {
		if err := p.healthy(); err != nil {
			return err
		}
	}
	return nil
}

// Connected says whether NATS can be reached.
func (b *Belt) Connected() error {
	if !b.nc.IsConnected() {
		return fmt.Errorf("pipeline: not connected to NATS (%s)", b.nc.Status())
	}
	return nil
}

// StreamStats says what a stream holds.
type StreamStats struct {
	Stream          string
	Messages, Bytes uint64
	First, Last     device.Position
}

// Stats answers what the four streams hold now.
func (b *Belt) Stats(ctx context.Context) ([]StreamStats, error) {
	var out []StreamStats
	for _, name := range []string{TelemetryStream, CommandStream, CommandEventStream, DeadLetterStream} {
		s, err := b.js.Stream(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("pipeline: stream %s: %w", name, err)
		}
		info := s.CachedInfo()
		epoch, state := streamEpoch(info), info.State
		out = append(out, StreamStats{Stream: name, Messages: state.Msgs, Bytes: state.Bytes,
			First: device.Position{Epoch: epoch, Seq: state.FirstSeq}, Last: device.Position{Epoch: epoch, Seq: state.LastSeq}})
	}
	return out, nil
}

// Close finishes what was submitted and disconnects; what is not known to be
// stored when ctx ends is answered Unavailable. A second call does nothing.
// Persisters, feeds and mailboxes are stopped before.
func (b *Belt) Close(ctx context.Context) (err error) {
	b.closeOnce.Do(func() {
		b.deadLetters.close(ctx)
		for _, p := range b.publishers() {
			err = errors.Join(err, p.close(ctx))
		}
		b.disconnect()
	})
	return err
}

// publishers is all of them, in the order in which they are closed.
func (b *Belt) publishers() []*publisher {
	return []*publisher{b.sessions, b.retained, b.topics, b.records, b.letters, b.events, b.commands, b.telemetry}
}

// abandon undoes a half-made opening.
func (b *Belt) abandon() {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for _, p := range b.publishers() {
		if p != nil {
			_ = p.close(over)
		}
	}
	b.disconnect()
}

func (b *Belt) disconnect() {
	if b.room != nil {
		b.room.close()
	}
	for _, nc := range []*nats.Conn{b.rnc, b.nc} {
		if nc != nil {
			nc.Close()
		}
	}
}

// unavailable is what a device is told when the outcome is not known.
func unavailable(cause error) error {
	return device.Wrap(device.Unavailable, "the message may not have been stored, send it again", cause)
}
