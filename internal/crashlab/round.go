package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// patience is how long the victim may take to be well again, and what it has
// acknowledged to be in its store. It is generous: machines are slow, and this
// is no measurement. What it took is told.
const patience = 2 * time.Minute

// errStuck means that the victim did not get well by itself.
var errStuck = errors.New("the server did not come back")

// round is load, a fault, and the return.
func (l *lab) round(ctx context.Context, n int) error {
	rng := rand.New(rand.NewPCG(l.Seed+uint64(l.id), uint64(n)))
	name := l.Fault[rng.IntN(len(l.Fault))]
	l.book.round.Store(int64(n))
	if err := l.load(ctx, l.config.Load+time.Duration(rng.IntN(1000))*time.Millisecond); err != nil {
		return l.stuck(n, name, err)
	}
	what, err := faults[name].do(l, ctx, rng)
	began := time.Now()
	if err == nil {
		err = l.comesBack(ctx)
	}
	if err != nil {
		return l.stuck(n, name, err)
	}
	took := time.Since(began)
	l.tally.Slowest = max(l.tally.Slowest, took)
	lost, err := comeBack(ctx, l.victim, l.devices, l.checked, l.lossPatience())
	if err != nil {
		return err
	}
	for _, text := range lost {
		l.say("round %d: acknowledged and not in the store: %s", n, text)
	}
	l.say("round %d of %d, %s: %s; back after %s; %d acked", n, l.First+l.Rounds-1, name, what, took.Round(time.Millisecond), l.book.acked.Load())
	return l.book.err()
}

// lossPatience is shorter where losses are what is looked for.
func (l *lab) lossPatience() time.Duration {
	if l.ExpectLoss {
		return 5 * time.Second
	}
	return patience / 2
}

// stuck counts a round in which the victim broke its word to be there, and ends
// the run; other errors are the laboratory's.
func (l *lab) stuck(n int, name string, err error) error {
	if errors.Is(err, errStuck) || errors.Is(err, errIngest) || errors.Is(err, errGone) {
		l.tally.Stuck++
		l.victim.dump()
	}
	return err
}

// load lets time pass in which devices are acknowledged.
func (l *lab) load(ctx context.Context, d time.Duration) error {
	before := l.book.acked.Load()
	if !wait(ctx, d) {
		return ctx.Err()
	}
	if err := l.enough(ctx, before+int64(leastAcks/l.config.Rounds+1)); err != nil {
		return err
	}
	if l.victim.ended() {
		return fmt.Errorf("%w under load: %s", errGone, l.victim.lastWords())
	}
	return nil
}

// enough waits for what makes a round worth something, on a machine that is
// slow or busy.
func (l *lab) enough(ctx context.Context, acks int64) error {
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := until(within, func() (bool, error) { return l.book.acked.Load() >= acks || l.victim.ended(), nil })
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %d acknowledgements are missing after %s", errStuck, acks-l.book.acked.Load(), patience)
	}
	return err
}

// comesBack returns when the victim is ready and devices are acknowledged
// again. While it ends by itself it is started again, as a supervisor would.
func (l *lab) comesBack(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	why := errors.New("not asked yet")
	enough := int64(-1) // acknowledgements, once it is ready
	err := until(within, func() (bool, error) {
		if l.victim.ended() {
			if why = l.victim.spawn(); why != nil {
				return false, nil
			}
		}
		if l.victim.doors.Load() == nil {
			if why = l.victim.await(within); why != nil {
				wait(within, 300*time.Millisecond)
				return false, nil
			}
		}
		if why = l.victim.readiness(within); why != nil {
			return false, nil
		}
		if enough < 0 {
			enough = l.book.acked.Load() + 20
		}
		why = fmt.Errorf("ready, and %d acknowledgements short", enough-l.book.acked.Load())
		return l.book.acked.Load() >= enough, nil
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w within %s: %w", errStuck, patience, why)
	}
	return err
}
