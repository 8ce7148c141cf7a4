package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tributary-iot/tributary/internal/crashlab/faultfs"
)

// fault is one kind of trouble. do makes it and ends it, under load, and answers
// what it did; the round brings the victim back afterwards.
type fault struct {
	help string
	disk bool // needs a disk that can fail
	do   func(l *lab, ctx context.Context, rng *rand.Rand) (string, error)
}

// faults by the name they are asked for.
var faults = map[string]fault{
	"kill":      {"kill -9 at a random moment", false, (*lab).kill},
	"stop":      {"SIGSTOP for up to 8 s, then SIGCONT or kill -9", false, (*lab).pause},
	"powercut":  {"kill -9, and what was not synced is gone, all of it or a random part", true, (*lab).powercut},
	"enospc":    {"the disk fills up, under the stream, the store or both, and is freed", true, (*lab).enospc},
	"fsyncerr":  {"fsync fails for a while, from the Nth call on, and what it should have written stays unwritten", true, (*lab).fsyncerr},
	"writeerr":  {"writes fail for a while, from the Nth call on", true, (*lab).writeerr},
	"storedown": {"the store alone is locked by another process, full, or failing", true, (*lab).storedown},
}

// list names all faults.
func list() string {
	var names []string
	for name := range faults {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func (l *lab) kill(ctx context.Context, rng *rand.Rand) (string, error) {
	l.victim.kill()
	return l.restart(ctx, rng, "killed", func() (string, error) { return "", nil })
}

func (l *lab) powercut(ctx context.Context, rng *rand.Rand) (string, error) {
	l.victim.kill()
	what, err := l.cut(ctx, rng)
	if err != nil {
		return "", err
	}
	return l.restart(ctx, rng, what, func() (string, error) { return l.cut(ctx, rng) })
}

// cut takes all of what was not synced, or lets a part stay; where losses are
// wanted it takes all.
func (l *lab) cut(ctx context.Context, rng *rand.Rand) (string, error) {
	part := rng.IntN(2) == 0 && l.Durability == "strict"
	return l.ground.cut(ctx, rng, part)
}

// restart starts the victim after it died, and in a third of the cases lets it
// die again while it recovers, once or twice.
func (l *lab) restart(ctx context.Context, rng *rand.Rand, what string, again func() (string, error)) (string, error) {
	times := max(0, rng.IntN(6)-3)
	for range times {
		if err := l.victim.spawn(); err != nil {
			return "", err
		}
		after := time.Duration(rng.IntN(1500)) * time.Millisecond
		if !wait(ctx, after) {
			return "", ctx.Err()
		}
		l.victim.kill()
		more, err := again()
		if err != nil {
			return "", err
		}
		what += fmt.Sprintf("; again %s into the restart %s", after, more)
	}
	return what, l.victim.spawn()
}

func (l *lab) pause(ctx context.Context, rng *rand.Rand) (string, error) {
	d := 100*time.Millisecond + time.Duration(rng.IntN(8000))*time.Millisecond
	l.victim.signal(syscall.SIGSTOP)
	ok := wait(ctx, d)
	if rng.IntN(4) == 0 {
		l.victim.kill()
		return fmt.Sprintf("stopped for %s, then killed", d), l.victim.spawn()
	}
	l.victim.signal(syscall.SIGCONT)
	if !ok {
		return "", ctx.Err()
	}
	return fmt.Sprintf("stopped for %s", d), nil
}

// places of the data that trouble may be confined to.
var places = []string{"", "nats", "store"}

func placeName(under string) string {
	if under == "" {
		return "the disk"
	}
	return "the disk under " + under
}

func (l *lab) enospc(ctx context.Context, rng *rand.Rand) (string, error) {
	under, room := places[rng.IntN(3)], int64(rng.IntN(256<<10))
	limit, how := l.ground.disk.Limit, "is full"
	if rng.IntN(2) == 0 {
		limit, how = l.ground.disk.Quota, "is full, though it says it is not,"
	}
	return l.outage(ctx, rng, outage{
		what:  fmt.Sprintf("%s %s after %d more KiB", placeName(under), how, room>>10),
		begin: func() error { limit(under, room); return nil },
		store: under == "store",
	})
}

func (l *lab) fsyncerr(ctx context.Context, rng *rand.Rand) (string, error) {
	return l.ioError(ctx, rng, "fsync", faultfs.Fault{Sync: true})
}

func (l *lab) writeerr(ctx context.Context, rng *rand.Rand) (string, error) {
	return l.ioError(ctx, rng, "write", faultfs.Fault{Write: true})
}

func (l *lab) ioError(ctx context.Context, rng *rand.Rand, call string, f faultfs.Fault) (string, error) {
	f.Under, f.Skip, f.Errno = places[rng.IntN(3)], rng.IntN(40), syscall.EIO
	return l.outage(ctx, rng, outage{
		what:  fmt.Sprintf("%s of %s fails after %d more", call, placeName(f.Under), f.Skip),
		begin: func() error { l.ground.disk.Inject(f); return nil },
		store: f.Under == "store",
	})
}

func (l *lab) storedown(ctx context.Context, rng *rand.Rand) (string, error) {
	o := outage{store: true}
	switch rng.IntN(3) {
	case 0:
		o.what = "the store is locked"
		locked := &locker{}
		o.begin = func() error { return locked.take(ctx, l.victim.data) }
		o.end = locked.release
	case 1:
		o.what = "the store's disk is full"
		o.begin = func() error { l.ground.disk.Limit("store", int64(rng.IntN(64<<10))); return nil }
	default:
		o.what = "the store's disk fails"
		o.begin = func() error {
			l.ground.disk.Inject(faultfs.Fault{Under: "store", Write: true, Sync: true, Errno: syscall.EIO})
			return nil
		}
	}
	return l.outage(ctx, rng, o)
}

// outage is trouble that lasts for a while.
type outage struct {
	what  string
	begin func() error
	end   func() error // besides healing the disk; nil: nothing
	store bool         // only the store is out of order: devices must not notice
}

// errIngest means that devices were not acknowledged while only the store was down.
var errIngest = errors.New("nothing was acknowledged while only the store was out of order")

func (o *outage) over(l *lab) (hits int, err error) {
	hits = l.ground.disk.Heal()
	if o.end != nil {
		err, o.end = o.end(), nil
	}
	return hits, err
}

// outage makes trouble for up to 6 s, after it was first noticed. In some rounds
// the victim is killed in it and must be started in it, or power is cut in it,
// or soon after it.
func (l *lab) outage(ctx context.Context, rng *rand.Rand, o outage) (what string, err error) {
	lasts, end := 100*time.Millisecond+time.Duration(rng.IntN(6000))*time.Millisecond, rng.IntN(10)
	defer func() {
		if _, e := o.over(l); err == nil {
			err = e
		}
	}()
	if err := o.begin(); err != nil {
		return "", err
	}
	noticing, cancel := context.WithTimeout(ctx, 5*time.Second)
	_ = until(noticing, func() (bool, error) { return l.ground.disk.Hits() > 0 || o.end != nil, nil })
	cancel()
	before := l.book.acked.Load()
	if !wait(ctx, lasts) {
		return "", ctx.Err()
	}
	what = fmt.Sprintf("%s, for %s", o.what, lasts)
	if o.store { // it lasts until somebody was acknowledged in it, on however slow a machine
		if err := l.enough(ctx, before+1); err != nil {
			return "", fmt.Errorf("%w (%s): %w", errIngest, what, err)
		}
	}
	switch {
	case end < 3:
		return l.dieInOutage(ctx, rng, &o, what, end == 0)
	case end < 6:
		return l.cutAfterOutage(ctx, rng, &o, what)
	}
	hits, err := o.over(l)
	return fmt.Sprintf("%s, %d calls failed", what, hits), err
}

// dieInOutage kills the victim while the trouble lasts, and starts it while it
// lasts: it may refuse to start, as often as it likes.
func (l *lab) dieInOutage(ctx context.Context, rng *rand.Rand, o *outage, what string, cut bool) (string, error) {
	l.victim.kill()
	what += ", killed in it"
	if cut {
		if o.end != nil { // who holds the lock has lost power, too
			if _, err := o.over(l); err != nil {
				return "", err
			}
		}
		more, err := l.cut(ctx, rng)
		if err != nil {
			return "", err
		}
		what += ", power cut in it: " + more
	}
	if err := l.victim.spawn(); err != nil {
		// The stale addresses may be what cannot be removed; that is for after the trouble.
		what += ", not started in it"
	}
	if !wait(ctx, time.Duration(rng.IntN(3000))*time.Millisecond) {
		return "", ctx.Err()
	}
	hits, err := o.over(l)
	return fmt.Sprintf("%s, %d calls failed", what, hits), err
}

// cutAfterOutage is what an error that was told once and forgotten shows in: the
// trouble ends, the victim is well again and takes messages, then power is cut.
func (l *lab) cutAfterOutage(ctx context.Context, rng *rand.Rand, o *outage, what string) (string, error) {
	hits, err := o.over(l)
	if err != nil {
		return "", err
	}
	if err := l.comesBack(ctx); err != nil {
		return "", err
	}
	if !wait(ctx, time.Duration(rng.IntN(1000))*time.Millisecond) {
		return "", ctx.Err()
	}
	l.victim.kill()
	more, err := l.cut(ctx, rng)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %d calls failed, power cut after it: %s", what, hits, more), l.victim.spawn()
}
