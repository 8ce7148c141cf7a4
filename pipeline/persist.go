package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// PersistOptions tune the persister; the zero value is right for a server.
type PersistOptions struct {
	MaxBatch  int              // rows of one transaction; default 4,000
	Pace      time.Duration    // least time between two commits of a stream, while messages flow; default 40 ms
	KeepBytes int64            // of stored messages that TELEMETRY keeps for stream readers; default 4 GiB
	PurgeStep int64            // bytes over KeepBytes before they are purged; default 64 MiB
	Floor     Floor            // nil: this store alone decides what the streams may forget
	Keep      device.KeepRules // which channels the store keeps no history of
	Tend      time.Duration    // how often lag and size are looked at; default 1 s
	RetryMin  time.Duration    // first wait after the store failed; default 100 ms, doubling
	RetryMax  time.Duration    // longest wait; default 5 s
}

// Floor is the sequence of a stream up to which every store has it.
type Floor func(ctx context.Context, stream string) (uint64, error)

func (o PersistOptions) withDefaults() PersistOptions {
	o.MaxBatch = cmp.Or(o.MaxBatch, 4000)
	o.Pace = cmp.Or(o.Pace, 40*time.Millisecond)
	o.KeepBytes = cmp.Or(o.KeepBytes, 4<<30)
	o.PurgeStep = cmp.Or(o.PurgeStep, 64<<20)
	o.Tend = cmp.Or(o.Tend, time.Second)
	o.RetryMin = cmp.Or(o.RetryMin, 100*time.Millisecond)
	o.RetryMax = cmp.Or(o.RetryMax, 5*time.Second)
	return o
}

// Persister carries the three streams into one store, each message once. Its
// place is kept by the store, in the transaction of the rows; the streams know
// nothing of it. One persister at a time writes to a store: a second one is
// held off by the store's position and keeps trying.
type Persister struct {
	b     *Belt
	store storage.Store
	opts  PersistOptions
	lines []*line
	stop  context.CancelFunc
	wg    sync.WaitGroup
}

// StartPersister compares the streams with the store's positions (align.go)
// and begins to write. Call it before the doors open: a stream that lost its
// tail is mended here, before new messages could take the lost numbers. ctx
// bounds the start only; Close ends it.
func (b *Belt) StartPersister(ctx context.Context, store storage.Store, o PersistOptions) (*Persister, error) {
	p := &Persister{b: b, store: store, opts: o.withDefaults()}
	for _, l := range []*line{
		{stream: TelemetryStream, decode: decodeMessage, keep: p.opts.KeepBytes},
		{stream: CommandStream, decode: decodeCommand},
		{stream: CommandEventStream, decode: decodeEvent},
	} {
		l.p, l.moved = p, make(chan struct{})
		if err := l.align(ctx); err != nil {
			return nil, fmt.Errorf("pipeline: compare stream %s with the store: %w", l.stream, err)
		}
		p.lines = append(p.lines, l)
	}
	run, stop := context.WithCancel(context.Background())
	p.stop = stop
	for _, l := range p.lines {
		p.wg.Go(func() { l.run(run) })
		p.wg.Go(func() { l.tend(run) })
	}
	return p, nil
}

// Close stops after the batch in hand. What is not written stays in the
// streams. A second call does nothing.
func (p *Persister) Close(ctx context.Context) error {
	p.stop()
	done := make(chan struct{})
	go func() { p.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("pipeline: persister did not stop: %w", ctx.Err())
	}
}

// Lag is how many sequences of TELEMETRY are not in the store yet, as of the
// last look (see PersistOptions.Tend).
func (p *Persister) Lag() uint64 { return p.lines[0].lag.Load() }

// Stored is the last sequence of a stream that the store holds; 0 when it
// holds none of the stream's present life.
func (p *Persister) Stored(stream string) uint64 {
	for _, l := range p.lines {
		if l.stream == stream {
			pos, _ := l.position()
			return pos.Seq
		}
	}
	return 0
}

// Positions is where the store is in each stream.
func (p *Persister) Positions() map[string]device.Position {
	all := map[string]device.Position{}
	for _, l := range p.lines {
		all[l.stream], _ = l.position()
	}
	return all
}

// Guarded names the streams that were not what the store expected, so that a
// new epoch began or numbers were passed over (align.go).
func (p *Persister) Guarded() (streams []string) {
	for _, l := range p.lines {
		if l.guarded.Load() {
			streams = append(streams, l.stream)
		}
	}
	return streams
}

// Healthy reports a store that fails.
func (p *Persister) Healthy() error {
	for _, l := range p.lines {
		if e := l.failing.Load(); e != nil {
			return fmt.Errorf("pipeline: stream %s cannot be stored: %w", l.stream, *e)
		}
	}
	return nil
}

// WaitStored returns when the store holds everything that was in the three
// streams when it was called.
func (p *Persister) WaitStored(ctx context.Context) error {
	for _, l := range p.lines {
		if err := l.waitStored(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (l *line) waitStored(ctx context.Context) error {
	s, err := l.p.b.js.Stream(ctx, l.stream)
	if err != nil {
		return err
	}
	target := s.CachedInfo().State.LastSeq
	recheck := time.NewTicker(100 * time.Millisecond)
	defer recheck.Stop()
	for {
		pos, moved := l.position()
		if pos.Seq >= target {
			return nil
		}
		// What was removed from the stream will never be stored.
		next, err := l.nextAfter(ctx, s, pos.Seq)
		if err != nil {
			return err
		}
		if next == 0 || next > target {
			return nil
		}
		select {
		case <-moved:
		case <-recheck.C:
		case <-ctx.Done():
			return fmt.Errorf("pipeline: waiting for the store: %w", ctx.Err())
		}
	}
}

// run reads, decodes and writes until ctx ends, starting again from the
// store's position whenever that turns out not to be what we thought.
func (l *line) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := l.carry(ctx)
		if ctx.Err() != nil {
			return
		}
		l.p.b.log.Warn("persister reads its position again", "stream", l.stream, "error", err)
		for wait := l.p.opts.RetryMin; ; wait = min(2*wait, l.p.opts.RetryMax) {
			if !sleep(ctx, wait) {
				return
			}
			err := l.align(ctx)
			if err == nil {
				break
			}
			l.fail(err)
		}
	}
}

// carry runs the two stages, reading and decoding in one goroutine, writing in
// this one, and answers why it stopped.
func (l *line) carry(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pos, _ := l.position()
	entries := newShelf(2 * l.p.opts.MaxBatch)
	reading := make(chan error, 1)
	go func() {
		defer close(entries.c)
		reading <- l.entries(ctx, pos.Seq+1, func(e entry) error { return entries.put(ctx, e) })
	}()
	err := l.write(ctx, entries)
	cancel()
	for range entries.c { // let the reader go
	}
	return errors.Join(err, <-reading)
}

// entries gives each what the stream holds from next on, decoded.
func (l *line) entries(ctx context.Context, next uint64, each func(entry) error) error {
	if l.stream == TelemetryStream && l.p.b.tail != nil {
		return l.follow(ctx, next, each)
	}
	return l.p.b.read(ctx, l.stream, next, nil, func(r raw) error {
		e, err := l.take(ctx, r)
		if err != nil {
			return err
		}
		return each(e)
	})
}

// sleep answers false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
