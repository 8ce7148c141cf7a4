package main

import (
	"context"
	"sync/atomic"
	"time"
)

// worker is a device that does what it is told, on a connection that it makes again
// whenever it ends, and remembers over its connections which answer it owes.
type worker struct {
	protocol, device string
	lock             time.Duration                // of HTTP; zero: a minute
	seen             func(id string, repeat bool) // nil: nobody asks
	answered         func(id string)

	owes   string
	failed int
}

// labour works for whichever server is the one now, until ctx ends.
func (w *worker) labour(ctx context.Context, now *atomic.Pointer[server]) {
	if w.lock == 0 {
		w.lock = time.Minute
	}
	for ctx.Err() == nil {
		sit, cancel := context.WithTimeout(ctx, patience)
		d, err := seats[w.protocol](sit, now.Load(), w.device, w.lock)
		cancel()
		if err == nil {
			w.shift(ctx, d)
			d.cut()
		}
		select {
		case <-time.After(20 * time.Millisecond): // as a device would
		case <-ctx.Done():
		}
	}
}

// shift takes commands and answers them until the connection ends.
func (w *worker) shift(ctx context.Context, d seat) {
	for {
		if w.owes != "" && !w.answer(ctx, d) {
			return
		}
		p, err := d.take(ctx)
		if err != nil {
			return
		}
		if w.seen != nil {
			w.seen(p.id, p.repeat)
		}
		if p.settle(ctx, "accept") != nil {
			return
		}
		w.owes = p.id
	}
}

// answer gives the answer that is owed. One that fails again and again is refused:
// its command was not recorded as delivered, and comes again.
func (w *worker) answer(ctx context.Context, d seat) bool {
	brief, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if d.respond(brief, w.owes, 200) != nil {
		if w.failed++; w.failed > 2 {
			w.owes, w.failed = "", 0
		}
		return false
	}
	if w.answered != nil {
		w.answered(w.owes)
	}
	w.owes, w.failed = "", 0
	return true
}
