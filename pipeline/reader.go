package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
)

const (
	readAhead      = 2000            // messages asked for at a time
	readAheadBytes = 4 << 20         // of them
	readWait       = 5 * time.Second // how long one request stays open
	readRetry      = 250 * time.Millisecond
)

// raw is a message as it stands in a stream.
type raw struct {
	subject string
	header  nats.Header
	body    []byte
	seq     uint64
	stored  time.Time
	pending uint64 // messages behind it when it was delivered
	fresh   bool   // the first of what was fetched together
	waiting int    // messages that had come behind it, and wait here
}

// TooOldError means that a position is before what the stream keeps: what lies
// between is in the store, and the stream goes on from First.
type TooOldError struct{ First device.Position }

// FirstKept is First, for those who know the error by what it tells.
func (e *TooOldError) FirstKept() device.Position { return e.First }

func (e *TooOldError) Error() string {
	return fmt.Sprintf("pipeline: the stream keeps messages from sequence %d on; read older ones from the store", e.First.Seq)
}

// errGap restarts a reader whose deliveries are not consecutive.
var errGap = errors.New("pipeline: deliveries were lost on the way")

// read calls each for every message of a stream from sequence next on, in
// order, without a gap, until ctx ends (it answers ctx's error) or each
// answers an error (it answers that). It has a consumer in the server's memory,
// without acknowledgements, and makes it anew whenever it is lost. When what
// comes next was removed from the stream, it goes on with what is there.
func (b *Belt) read(ctx context.Context, stream string, next uint64, filters []string, each func(raw) error) error {
	for {
		last, err := b.readOnce(ctx, stream, next, filters, each)
		next = max(next, last+1)
		var stop *stopReading
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &stop):
			return stop.err
		case err != nil:
			b.log.Debug("reader starts again", "stream", stream, "from", next, "error", err)
		}
		select {
		case <-time.After(readRetry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stopReading carries an error of each through readOnce.
type stopReading struct{ err error }

func (e *stopReading) Error() string { return e.err.Error() }

// readOnce reads on one consumer until something breaks; last is the sequence
// of the last message given to each, 0 for none.
func (b *Belt) readOnce(ctx context.Context, stream string, next uint64, filters []string, each func(raw) error) (last uint64, err error) {
	c, err := b.rjs.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(next, 1), FilterSubjects: filters,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return 0, err
	}
	defer b.dropConsumer(stream, c.CachedInfo().Name)
	for delivered := uint64(0); ; {
		wait, cancel := context.WithTimeout(ctx, readWait)
		batch, err := c.Fetch(readAhead, jetstream.FetchContext(wait), jetstream.FetchMaxBytes(readAheadBytes))
		if err != nil {
			cancel()
			return last, err
		}
		fresh := true
		coming := batch.Messages()
		for m := range coming {
			meta, err := m.Metadata()
			if err != nil || meta.Sequence.Consumer != delivered+1 {
				cancel()
				return last, errors.Join(errGap, err)
			}
			delivered++
			err = each(raw{subject: m.Subject(), header: m.Headers(), body: m.Data(),
				seq: meta.Sequence.Stream, stored: meta.Timestamp.UTC(), pending: meta.NumPending, fresh: fresh, waiting: len(coming)})
			fresh = false
			if err != nil {
				cancel()
				return last, &stopReading{err}
			}
			last = meta.Sequence.Stream
		}
		cancel()
		if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return last, err
		}
		if ctx.Err() != nil {
			return last, ctx.Err()
		}
	}
}

// dropConsumer spares the server the minute until it would notice by itself.
func (b *Belt) dropConsumer(stream, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = b.rjs.DeleteConsumer(ctx, stream, name)
}
