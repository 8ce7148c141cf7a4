package pipeline

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
)

const (
	lookAround = 250 * time.Millisecond
	brake      = 100 * time.Millisecond // a full stream answers nobody faster
	mostSlack  = 64 << 20

	// recordBytes is about what a message takes of the stream beside its subject
	// and body: the record around it, and the headers of a batch.
	recordBytes = 128
)

// room is what the streams may still take, looked at four times a second and
// counted down in between. TELEMETRY ends at its own bound and where the disk's
// reserve begins. The other streams, which commands, operators and the registry
// need, go on into half of the reserve. (A bound of the stream itself would make
// the server walk all subjects in flight for each message.)
type room struct {
	b     *Belt
	stop  context.CancelFunc
	done  chan struct{}
	left  atomic.Int64 // for TELEMETRY
	other atomic.Int64 // for the other streams

	mu     sync.Mutex
	now    roomState
	opened chan struct{} // closed when there is room again; nil: there is
	since  time.Time     // there was none
}

// roomState is what the last look saw, in bytes.
type roomState struct {
	held, most    int64 // what TELEMETRY holds or is about to, and may hold; most 0: no bound
	free, reserve int64 // of the disk; of an external server's it is not known
	known         bool  // free and reserve are
}

// left is what TELEMETRY may still take: below zero, it holds too much.
func (s *roomState) left() int64 {
	left := int64(math.MaxInt64)
	if s.most > 0 {
		left = s.most - s.held
	}
	if s.known {
		left = min(left, s.free-s.reserve)
	}
	return left
}

// slack is how much must be free before a full stream takes messages again, and
// what stored messages are purged for beforehand.
func (s *roomState) slack() int64 {
	slack := int64(mostSlack)
	if s.most > 0 {
		slack = min(slack, s.most/8)
	}
	if s.known {
		slack = min(slack, s.reserve/4)
	}
	return max(slack, 1)
}

func (s roomState) String() string {
	text := fmt.Sprintf("%s holds %s", TelemetryStream, mebibytes(s.held))
	if s.most > 0 {
		text += " of " + mebibytes(s.most)
	}
	if s.known {
		text += fmt.Sprintf("; the disk has %s free, and %s are reserved", mebibytes(s.free), mebibytes(s.reserve))
	}
	return text
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// openRoom looks once, and then until close.
func (b *Belt) openRoom(ctx context.Context) (*room, error) {
	r := &room{b: b, done: make(chan struct{})}
	if err := r.look(ctx); err != nil {
		return nil, fmt.Errorf("pipeline: room of %s: %w", TelemetryStream, err)
	}
	run, stop := context.WithCancel(context.Background())
	r.stop = stop
	go r.watch(run)
	return r, nil
}

func (r *room) close() {
	r.stop()
	<-r.done
}

// watch looks again and again. A look that fails leaves what was known: then
// the stream takes nothing anyway.
func (r *room) watch(ctx context.Context) {
	defer close(r.done)
	for sleep(ctx, lookAround) {
		look, cancel := context.WithTimeout(ctx, r.b.opts.AckTimeout)
		_ = r.look(look)
		cancel()
	}
}

func (r *room) look(ctx context.Context) error {
	s := roomState{most: r.b.opts.StreamBytes}
	if server := r.b.opts.Server; server != nil {
		var err error
		if s.free, s.reserve, err = server.Disk(); err != nil {
			return err
		}
		s.known = true
		r.other.Store(s.free - s.reserve/2)
	} else {
		r.other.Store(math.MaxInt64)
	}
	stream, err := r.b.js.Stream(ctx, TelemetryStream)
	if err != nil {
		return err
	}
	s.held = int64(stream.CachedInfo().State.Bytes) + r.b.telemetry.waiting()
	r.saw(s)
	return nil
}

// saw takes what a look found.
func (r *room) saw(s roomState) {
	left := s.left()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = s
	m := r.b.metrics
	m.held.Set(float64(s.held))
	m.room.Set(float64(max(left, 0)))
	if r.opened != nil && left < s.slack() {
		left = 0
	}
	r.left.Store(left)
	switch {
	case left <= 0:
		r.shut()
	case r.opened != nil:
		close(r.opened)
		r.opened = nil
		r.b.log.Info("there is room for telemetry again", "limit", s.String(), "took", time.Since(r.since).Round(time.Millisecond))
	}
}

// shut lets no telemetry in until a look finds room. The lock is held.
func (r *room) shut() {
	if r.opened == nil {
		r.opened, r.since = make(chan struct{}), time.Now()
		r.b.log.Error("no room for telemetry: devices wait, and are refused for now; commands go on", "limit", r.now.String())
	}
}

// admit lets a message of about size bytes into a stream. When there is no room it waits for some,
// BusyAfter from when there was none, and then only so long that nobody asks in a
// circle; the answer is an error of code Busy.
func (r *room) admit(stream string, size int) error {
	if stream != TelemetryStream {
		if r.other.Add(-int64(size)) <= 0 {
			return device.Errorf(device.Busy, "the server's disk is full, try again later")
		}
		return nil
	}
	if r.left.Add(-int64(size)) > 0 {
		return nil
	}
	r.mu.Lock()
	r.shut()
	opened, since := r.opened, r.since
	r.mu.Unlock()
	t := time.NewTimer(max(time.Until(since.Add(r.b.opts.BusyAfter)), brake))
	defer t.Stop()
	select {
	case <-opened:
		return nil
	case <-t.C:
		r.b.metrics.roomRefused.Inc()
		return device.Errorf(device.Busy, "the server has no room for messages now, try again later")
	}
}

// purgeBytes is about what a purge may write, tombstones and a block anew.
const purgeBytes = 16 << 20

// purge empties a stream below a sequence; not on a disk that may not take what
// that writes, because a purge whose write fails leaves the stream of the
// embedded server locked for good. The error is of code Busy then.
func (b *Belt) purge(ctx context.Context, s jetstream.Stream, before uint64) error {
	if server := b.opts.Server; server != nil {
		if free, _, err := server.Disk(); err != nil || free < purgeBytes {
			return device.Wrap(device.Busy, "the server's disk is too full for tidying", err)
		}
	}
	return s.Purge(ctx, jetstream.WithPurgeSequence(before))
}

// RoomForTelemetry says what TELEMETRY holds and may hold; an error while it is full.
func (b *Belt) RoomForTelemetry() (detail string, err error) {
	b.room.mu.Lock()
	defer b.room.mu.Unlock()
	if b.room.opened != nil {
		err = fmt.Errorf("no telemetry is taken since %s: make room, or raise the bound", b.room.since.UTC().Format(time.RFC3339))
	}
	return b.room.now.String(), err
}

// wanted is how many bytes of stored messages are to go so that TELEMETRY
// need not become full.
func (r *room) wanted() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if left, slack := r.now.left(), r.now.slack(); left < 2*slack {
		return 3*slack - left
	}
	return 0
}
