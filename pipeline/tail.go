package pipeline

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	tailMessages = 8192     // places of the tail
	tailTaken    = 512      // at once, because the publisher waits meanwhile
	tailBytes    = 16 << 20 // of the messages in it
)

// tail is the newest messages of TELEMETRY, as their publisher had them when
// the stream acknowledged them. Where this process is the stream's only
// publisher, its persister takes them from here, and is spared reading and
// decoding again what was encoded a moment ago. It is a shortcut and nothing
// depends on it: what the tail misses is read from the stream (catchUp).
type tail struct {
	mu     sync.Mutex
	ring   []entry // place seq % len holds that sequence, or another's, or nothing
	bytes  int
	open   bool          // somebody takes from it
	newest uint64        // highest sequence the stream is known to hold
	grown  chan struct{} // capacity 1: newest rose
}

func newTail() *tail {
	return &tail{ring: make([]entry, tailMessages), grown: make(chan struct{}, 1)}
}

// reset forgets everything, because the sequences may be another stream's from
// now on. A closed tail takes nothing in.
func (t *tail) reset(open bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.ring)
	t.bytes, t.newest, t.open = 0, 0, open
}

// push takes what was stored from sequence first on. A full tail lets it go.
func (t *tail) push(first uint64, items []item) {
	now := time.Now().UTC()
	t.mu.Lock()
	for i := range items {
		it, seq := &items[i], first+uint64(i)
		t.clear(seq)
		if size := it.size(); t.open && t.bytes+size <= tailBytes && it.message != nil {
			t.bytes += size
			t.ring[seq%tailMessages] = entry{seq: seq, size: size, message: it.message,
				raw: raw{subject: it.subject, body: it.body, seq: seq, stored: now}}
		}
	}
	t.mu.Unlock()
	t.saw(first + uint64(len(items)) - 1)
}

// clear empties the place of seq.
func (t *tail) clear(seq uint64) {
	e := &t.ring[seq%tailMessages]
	t.bytes -= e.size
	*e = entry{}
}

// saw notes that the stream holds sequences up to seq.
func (t *tail) saw(seq uint64) {
	t.mu.Lock()
	t.newest = max(t.newest, seq)
	t.mu.Unlock()
	select {
	case t.grown <- struct{}{}:
	default:
	}
}

// take removes the messages that follow one another from next on, appended to
// into; missed means that the stream holds next and the tail does not.
func (t *tail) take(into []entry, next uint64) (taken []entry, missed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(into) < cap(into) {
		e := t.ring[next%tailMessages]
		if e.seq != next {
			break
		}
		into = append(into, e)
		t.clear(next)
		next++
	}
	return into, len(into) == 0 && next <= t.newest
}

// follow gives each what the stream holds from next on, in order, until ctx
// ends or each answers an error: from the tail, and from the stream itself
// when the tail was not there, was full, or did not learn of a message.
func (l *line) follow(ctx context.Context, next uint64, each func(entry) error) error {
	t := l.p.b.tail
	t.reset(true)
	defer t.reset(false)
	next, err := l.catchUp(ctx, next, each)
	if err != nil {
		return err
	}
	run := make([]entry, 0, min(l.p.opts.MaxBatch, tailTaken))
	for {
		var missed bool
		run, missed = t.take(run[:0], next)
		for _, e := range run {
			if err := each(e); err != nil {
				return err
			}
			next = e.seq + 1
		}
		clear(run)
		switch {
		case missed:
			l.p.b.metrics.tailMissed.Inc()
			if next, err = l.catchUp(ctx, next, each); err != nil {
				return err
			}
		case len(run) == 0:
			select {
			case <-t.grown:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// errCaughtUp stops a reader at what was the end of the stream.
var errCaughtUp = errors.New("pipeline: caught up")

// catchUp gives each what the stream holds now from next on, and answers what
// follows. Everything stored later is acknowledged later, so it is in the tail.
func (l *line) catchUp(ctx context.Context, next uint64, each func(entry) error) (uint64, error) {
	s, err := l.p.b.js.Stream(ctx, l.stream)
	if err != nil {
		return next, err
	}
	end := s.CachedInfo().State.LastSeq
	switch first, err := l.nextAfter(ctx, s, next-1); {
	case err != nil:
		return next, err
	case first == 0 || first > end: // what there was is removed
		return max(next, end+1), nil
	}
	err = l.p.b.read(ctx, l.stream, next, nil, func(r raw) error {
		if r.seq > end {
			return errCaughtUp
		}
		e, err := l.take(ctx, r)
		if err != nil {
			return err
		}
		if err := each(e); err != nil {
			return err
		}
		if next = r.seq + 1; r.seq == end || r.pending == 0 {
			return errCaughtUp
		}
		return nil
	})
	if errors.Is(err, errCaughtUp) {
		return max(next, end+1), nil
	}
	return next, err
}

// awake makes the reader look at the stream when it holds messages that the
// tail did not learn of since the last look: those whose acknowledgement was lost.
func (l *line) awake(last, pos uint64) {
	t := l.p.b.tail
	if t == nil || l.stream != TelemetryStream {
		return
	}
	if pos == l.looked.pos && pos < l.looked.last {
		t.saw(l.looked.last)
	}
	l.looked.last, l.looked.pos = last, pos
}
