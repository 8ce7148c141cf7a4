package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/internal/crashlab/faultfs"
)

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
	l.victim = &victim{program: program, data: l.ground.dir, logs: logs, durability: c.Durability, with: c.With}
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
