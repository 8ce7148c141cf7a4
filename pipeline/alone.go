package pipeline

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/storage"
)

const (
	aloneHeldBytes = 16 << 20         // of what was offered and not settled, beyond which nothing is offered
	aloneOverhead  = 1 << 10          // bytes a message counts beside its payload
	alonePatience  = 30 * time.Second // after which a reader that wants nothing has nothing read ahead for it
)

// alone is a subscription without a name: one reader, whose place nobody else needs
// to know. It follows the stream, and the store where the stream does not reach, so
// that however slow it is, it misses nothing the store has.
type alone struct {
	b     *Belt
	store storage.Reader
	q     FeedQuery
	offer func(adapters.Telemetry)
	lost  func(error)

	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}   // closed when run will offer no more
	at     device.Position // everything up to here was offered; run's
	wake   chan struct{}   // for run; holds one

	mu     sync.Mutex
	wanted int
	held   int     // bytes of what was offered and not settled
	again  []given // given back
}

// given is a message on its way to the reader.
type given struct {
	device.Stored
	attempt int
}

func (g *given) bytes() int { return len(g.Payload) + aloneOverhead }

func (b *Belt) readAlone(ctx context.Context, store storage.Reader, q adapters.Subscription, stream *jetstream.StreamInfo, offer func(adapters.Telemetry), lost func(error)) (adapters.Feed, error) {
	at, err := b.beginning(ctx, store, &q, stream)
	if err != nil {
		return nil, err
	}
	a := &alone{b: b, store: store, q: feedQuery(&q), offer: offer, lost: lost, at: at, done: make(chan struct{}), wake: make(chan struct{}, 1)}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	go a.run()
	return a, nil
}

// beginning is the position after which a subscription begins.
func (b *Belt) beginning(ctx context.Context, store storage.Reader, q *adapters.Subscription, stream *jetstream.StreamInfo) (device.Position, error) {
	state, epoch := stream.State, streamEpoch(stream)
	first := device.Position{Epoch: epoch, Seq: max(state.FirstSeq, 1)}
	switch {
	case q.After != "":
		after, err := devicepb.DecodePosition(q.After)
		if err == nil && (device.Position{Epoch: epoch, Seq: state.LastSeq}).Before(after) {
			_, err = feedStart(after, epoch, state.FirstSeq, state.LastSeq)
		}
		return after, err
	case q.First:
		return device.Position{Epoch: epoch, Seq: first.Seq - 1}, nil
	case q.Since.IsZero():
		return device.Position{Epoch: epoch, Seq: state.LastSeq}, nil
	case state.Msgs == 0 || q.Since.Before(state.FirstTime):
		at, err := since(ctx, store, q.Tenant, q.Since, first)
		if err != nil {
			err = device.Wrap(device.Unavailable, "what came at that time cannot be found now", err)
		}
		return at, err
	}
	return b.storedBefore(ctx, q.Since, epoch)
}

// storedBefore is the position before what the stream stored at a time or later.
func (b *Belt) storedBefore(ctx context.Context, t time.Time, epoch uint64) (device.Position, error) {
	c, err := b.rjs.CreateConsumer(ctx, TelemetryStream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &t, AckPolicy: jetstream.AckNonePolicy,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return device.Position{}, device.Wrap(device.Unavailable, "what came at that time cannot be found now", err)
	}
	defer b.dropConsumer(TelemetryStream, c.CachedInfo().Name)
	return device.Position{Epoch: epoch, Seq: c.CachedInfo().Delivered.Stream}, nil
}

// Request implements adapters.Feed.
func (a *alone) Request(n int) {
	a.mu.Lock()
	a.wanted += n
	a.mu.Unlock()
	a.poke()
}

// Recall implements adapters.Feed.
func (a *alone) Recall() {
	a.mu.Lock()
	a.wanted = 0
	a.mu.Unlock()
}

// Detach implements adapters.Feed.
func (a *alone) Detach(string) {
	a.cancel()
	<-a.done
}

func (a *alone) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// run reads until the subscription ends. What is read ahead for a reader that wants
// nothing for long is let go.
func (a *alone) run() {
	err := a.read()
	for err == nil && a.rest() {
		err = a.read()
	}
	close(a.done)
	if a.ctx.Err() == nil {
		a.cancel()
		a.lost(device.Wrap(device.Unavailable, "reading has ended; receive anew", err))
	}
}

// rest waits until something is wanted; false when the subscription ends before.
func (a *alone) rest() bool {
	for {
		if open, _ := a.next(); open {
			return true
		}
		select {
		case <-a.wake:
		case <-a.ctx.Done():
			return false
		}
	}
}

// read offers what is wanted, until nothing was wanted for a while.
func (a *alone) read() error {
	ctx, cancel := context.WithCancel(a.ctx)
	coming, ended := make(chan device.Stored), make(chan error, 1)
	at := a.at
	go func() {
		ended <- a.b.Follow(ctx, a.store, a.q, &at, func(m device.Stored) error {
			select {
			case coming <- m:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		close(ended)
	}()
	defer func() {
		cancel()
		for range ended { // the follower has left
		}
	}()
	patience := time.NewTimer(alonePatience)
	defer patience.Stop()
	for {
		open, back := a.next()
		if back != nil {
			a.give(*back)
			continue
		}
		from, idle := coming, patience.C
		if open {
			idle = nil
			patience.Reset(alonePatience)
		} else {
			from = nil
		}
		select {
		case m := <-from:
			a.at = m.Position
			a.give(given{m, 1})
		case err := <-ended:
			return err
		case <-a.wake:
		case <-idle:
			return nil
		}
	}
}

// next says whether the reader takes a message now, and which was given back.
func (a *alone) next() (open bool, back *given) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wanted == 0 || a.held >= aloneHeldBytes {
		return false, nil
	}
	if len(a.again) > 0 {
		back = &a.again[0]
		a.again = a.again[1:]
	}
	return true, back
}

func (a *alone) give(m given) {
	a.mu.Lock()
	a.wanted = max(a.wanted-1, 0) // it may have been recalled
	a.held += m.bytes()
	a.mu.Unlock()
	a.offer(adapters.Telemetry{
		Stored: m.Stored, Token: devicepb.EncodePosition(m.Position), Attempt: m.attempt,
		Settle: func(kind device.OutcomeKind) { a.settle(m, kind) },
	})
}

// settle takes what became of a message: what is given back comes again.
func (a *alone) settle(m given, kind device.OutcomeKind) {
	a.mu.Lock()
	a.held -= m.bytes()
	if kind == device.Released || kind == device.LockExpired {
		m.attempt++
		a.again = append(a.again, m)
	}
	a.mu.Unlock()
	a.poke()
}
