package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/internal/crashlab/faultfs"
)

// patience is how long the victim may take to be well again, and what it has
// acknowledged to be in its store. It is generous: machines are slow, and this
// is no measurement. What it took is told.
const patience = 2 * time.Minute

// lab is one victim, its devices, and the rounds they go through.
type lab struct {
	config
	id     int
	dir    string
	out    io.Writer
	ground *ground
	victim *victim
	book   *ledger

	devices []*device
	closing chan struct{}
	living  sync.WaitGroup

	tally   tally
	checked map[string]int // how many messages of a device were found in the store
}

// errStuck means that the victim did not get well by itself.
var errStuck = errors.New("the server did not come back")

func newLab(c config, id int, dir, program string, out io.Writer) (l *lab, err error) {
	l = &lab{config: c, id: id, dir: dir, out: out, closing: make(chan struct{}), checked: map[string]int{}}
	names := map[string]faultfs.Names{"journal": faultfs.JournalNames, "strict": faultfs.StrictNames}[c.Names]
	logs := filepath.Join(dir, "logs")
	if err := os.MkdirAll(logs, 0o700); err != nil {
		return nil, err
	}
	if l.book, err = openLedger(filepath.Join(dir, "ledger")); err != nil {
		return nil, err
	}
	faulty := slices.ContainsFunc(c.Fault, func(name string) bool { return faults[name].disk })
	if l.ground, err = newGround(filepath.Join(dir, "data"), faulty, names); err != nil {
		return nil, err
	}
	l.victim = &victim{program: program, data: l.ground.dir, logs: logs, durability: c.Durability}
	return l, nil
}

func (l *lab) say(format string, args ...any) {
	fmt.Fprintf(l.out, "[%d] %s\n", l.id, fmt.Sprintf(format, args...))
}

// run goes through the rounds and answers the verdict. An error is one of the
// laboratory, or the end of ctx.
func (l *lab) run(ctx context.Context) (_ tally, err error) {
	defer func() {
		if l.victim.cmd != nil {
			l.victim.kill()
		}
		if e := errors.Join(l.ground.leave(err != nil || l.bad()), l.book.close()); err == nil {
			err = e
		}
	}()
	if err := l.victim.spawn(); err != nil {
		return l.tally, err
	}
	if err := l.victim.await(ctx); err != nil {
		return l.tally, err
	}
	if l.Durability == "relaxed" && l.ground.disk != nil {
		l.ground.disk.Sync() // what lost messages are counted from is not a first start's first second
	}
	living, die := context.WithCancel(ctx)
	defer l.living.Wait()
	defer die()
	l.people(living)
	for n := l.First; n < l.First+l.Rounds; n++ {
		if err := l.round(ctx, n); err != nil {
			return l.tally, fmt.Errorf("round %d: %w", n, err)
		}
	}
	if err := l.leave(ctx); err != nil {
		return l.tally, err
	}
	return l.tally, l.judge(ctx)
}

// bad says that the run broke a promise, other than the one that is to be broken.
func (l *lab) bad() bool { return l.tally.broken() > 0 || l.tally.Lost > 0 && !l.ExpectLoss }

// people brings the devices to life.
func (l *lab) people(ctx context.Context) {
	for _, p := range protocols {
		for i := range l.Devices {
			d := &device{protocol: p, name: fmt.Sprintf("%s%d", p.door, i), book: l.book, addr: l.victim.door, closing: l.closing}
			d.every = time.Second * time.Duration(l.Devices*len(protocols)) / time.Duration(l.Rate)
			l.devices = append(l.devices, d)
			l.living.Go(func() { d.live(ctx) })
		}
	}
}

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

// leave lets the devices finish, stops the victim as an operator would and starts
// it again: what is judged has been through all of it.
func (l *lab) leave(ctx context.Context) error {
	close(l.closing)
	done := make(chan struct{})
	go func() { l.living.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		l.say("some devices did not get everything acknowledged within %s", patience)
	case <-ctx.Done():
		return ctx.Err()
	}
	stopping, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := l.victim.stop(stopping); err != nil {
		l.tally.Stuck++
		l.say("%v", err)
	}
	if err := l.victim.spawn(); err != nil {
		return err
	}
	return l.victim.await(stopping)
}

// judge compares everything that is stored with everything the devices know.
func (l *lab) judge(ctx context.Context) error {
	if _, err := comeBack(ctx, l.victim, l.devices, l.checked, l.lossPatience()); err != nil {
		return err
	}
	a, err := ask(l.victim)
	if err != nil {
		return err
	}
	defer a.conn.Close()
	told := 0
	for _, d := range l.devices {
		rows, err := a.rows(ctx, d.name, 10_000, true)
		if err != nil {
			return err
		}
		l.tally.add(judge(d.name, d.known(), rows, func(format string, args ...any) {
			if told++; told <= 20 {
				l.say(format, args...)
			}
		}))
	}
	if told > 20 {
		l.say("and %d more", told-20)
	}
	l.tally.Starts = l.victim.starts
	l.say("%s", l.tally)
	return l.book.err()
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
