package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// How often the streams of an external server are looked for, and for how long one has
// to be gone before this process ends itself. A server that recovers an account late
// does not know its streams for a moment.
const (
	goneLook  = 2 * time.Second
	goneAfter = 10 * time.Second
)

// streamWatch knows which streams on disk this belt found or made. A stream of somebody
// else's server may be deleted, or the server be started on another directory, under
// a node that goes on. What the node holds of it is wrong then: the store's position,
// those of sessions, leases, who is registered. Only opening it all anew puts that
// right, so the process ends.
type streamWatch struct {
	every, patience time.Duration

	mu      sync.Mutex
	kept    map[string]time.Time // when each was created; zero: not looked at yet
	gone    error                // what is not there, as last seen
	looks   int                  // that were answered
	silence int                  // looks that were not
}

func newStreamWatch() *streamWatch {
	return &streamWatch{every: goneLook, patience: goneAfter, kept: map[string]time.Time{}}
}

// keep notes a stream that is there from now on.
func (w *streamWatch) keep(stream string) {
	w.mu.Lock()
	w.kept[stream] = time.Time{}
	w.mu.Unlock()
}

// Watch looks whether an external server still has the streams that this belt opened,
// until ctx ends. It ends earlier, with an error, when one has been gone, or another of
// its name in its place, for ten seconds: this process has to be started anew then.
func (b *Belt) Watch(ctx context.Context) error {
	if b.opts.Server != nil {
		return nil // nobody else can reach it
	}
	var since time.Time
	for sleep(ctx, b.watch.every) {
		before := b.watch.says()
		gone, err := b.lost(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil: // starting, or without a leader: that says nothing
			b.watch.unanswered()
			since = time.Now()
			continue
		}
		b.watch.note(gone)
		switch {
		case gone == nil && before != nil:
			b.log.Info("the streams are there again")
		case gone != nil && before == nil:
			since = time.Now()
			b.log.Error("this process will end, to be started anew, if it stays so", "error", gone, "limit", b.watch.patience)
		case gone != nil && time.Since(since) >= b.watch.patience:
			return fmt.Errorf("pipeline: %w; when this process is started anew it makes what is missing", gone)
		}
	}
	return nil
}

// lost says which streams are not what they were; err, that this could not be learned.
func (b *Belt) lost(ctx context.Context) (gone, err error) {
	b.watch.mu.Lock()
	kept := maps.Clone(b.watch.kept)
	b.watch.mu.Unlock()
	var missing, others, shorter []string
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		acked := b.acknowledged(name)
		look, cancel := context.WithTimeout(ctx, lookTimeout)
		s, err := b.js.Stream(look, name)
		cancel()
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			missing = append(missing, name)
		case err != nil:
			return nil, err
		case kept[name].IsZero():
			kept[name] = s.CachedInfo().Created
		case !kept[name].Equal(s.CachedInfo().Created):
			others = append(others, name)
		case s.CachedInfo().State.LastSeq < acked:
			shorter = append(shorter, name)
		}
	}
	b.watch.seen(kept)
	return amiss(missing, others, shorter), nil
}

// amiss says which streams are not what they were, and what may have happened.
func amiss(missing, others, shorter []string) error {
	var what []string
	for _, w := range []struct {
		is    string
		names []string
	}{{"are gone", missing}, {"were deleted and made anew", others}, {"lack what was acknowledged", shorter}} {
		if len(w.names) > 0 {
			what = append(what, w.is+": "+strings.Join(w.names, ", "))
		}
	}
	if what == nil {
		return nil
	}
	return fmt.Errorf("streams of the NATS server %s: bring back its directory if it runs on another, or restore them", strings.Join(what, "; "))
}

// acknowledged is the highest sequence of a stream that we were told was stored.
func (b *Belt) acknowledged(stream string) uint64 {
	for _, p := range b.publishers() {
		if p.stream == stream {
			return p.lastOK.Load()
		}
	}
	return 0
}

// seen remembers when the streams were created.
func (w *streamWatch) seen(created map[string]time.Time) {
	w.mu.Lock()
	maps.Copy(w.kept, created)
	w.looks++
	w.mu.Unlock()
}

func (w *streamWatch) unanswered() {
	w.mu.Lock()
	w.silence++
	w.mu.Unlock()
}

func (w *streamWatch) note(gone error) {
	w.mu.Lock()
	w.gone = gone
	w.mu.Unlock()
}

func (w *streamWatch) says() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone
}
