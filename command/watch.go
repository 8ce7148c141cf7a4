package command

import (
	"context"
	"errors"
	"sync"

	"github.com/tributary-iot/tributary/device"
)

// found is a command and where it was found.
type found struct {
	id     device.ID
	record device.CommandRecord
	ended  bool   // in the store, gone from the mailbox
	seen   uint64 // otherwise: the device's newest event when it was read
}

// locate finds a command by its id; id.Device may be empty. A command is in the
// mailbox, and then in this node's table as soon as the node has read that far,
// or it was removed from there, and then it is in the store. So a miss is
// believed only after the node has read all that was stored before the call.
func (s *Service) locate(ctx context.Context, id device.ID, cmd string) (found, error) {
	for try := 0; ; try++ {
		f, err := s.lookUp(ctx, id, cmd)
		if try > 0 || device.CodeOf(err) != device.NotFound {
			return f, err
		}
		if err := s.catchUp(ctx); err != nil {
			return found{}, err
		}
	}
}

func (s *Service) lookUp(ctx context.Context, id device.ID, cmd string) (found, error) {
	s.mu.Lock()
	dev, ok := s.table.find(cmd)
	s.mu.Unlock()
	if ok && (dev.Tenant != id.Tenant || id.Device != "" && dev.Device != id.Device) {
		return found{}, errGone
	}
	if ok {
		f, err := ask(ctx, s, dev, func(a *actor) (found, error) {
			c := a.find(cmd)
			if c == nil {
				return found{}, errGone
			}
			return found{id: dev, record: c.record(), seen: a.lastEvent}, nil
		})
		if !errors.Is(err, errGone) {
			return f, err
		}
	}
	if s.history == nil {
		return found{}, errGone
	}
	r, err := s.history.Command(ctx, id.Tenant, id.Device, cmd)
	switch {
	case device.CodeOf(err) == device.NotFound:
		return found{}, errGone
	case err != nil:
		return found{}, device.Wrap(device.Unavailable, "the store cannot be asked for the command: try again", err)
	}
	if state := stateOf(&r); !state.Terminal() { // it is in the mailbox: this node has yet to read it
		return found{}, errGone
	}
	return found{id: r.Command.ForDevice(), record: r, ended: true}, nil
}

// Get answers a command with its events. id.Device may be empty. NotFound when
// there is none of the tenant's (and device's, when given).
func (s *Service) Get(ctx context.Context, id device.ID, cmd string) (device.CommandRecord, error) {
	f, err := s.locate(ctx, id, cmd)
	return f.record, err
}

// Cancel withdraws a command that was not sent yet and answers it as CANCELLED;
// Precondition once it was. Cancelling again is harmless.
func (s *Service) Cancel(ctx context.Context, id device.ID, cmd string) (device.CommandRecord, error) {
	f, err := s.locate(ctx, id, cmd)
	if err != nil {
		return device.CommandRecord{}, err
	}
	if !f.ended {
		r, err := ask(ctx, s, f.id, func(a *actor) (device.CommandRecord, error) { return a.cancel(cmd) })
		if !errors.Is(err, errGone) {
			return r, err
		}
		if f, err = s.locate(ctx, id, cmd); err != nil {
			return device.CommandRecord{}, err
		}
	}
	_, _, err = Next(stateOf(&f.record), Event{Kind: Cancel, At: now()})
	return f.record, err
}

func (a *actor) cancel(id string) (device.CommandRecord, error) {
	if _, err := a.apply(id, transition{Event: Event{Kind: Cancel, At: now()}, reason: "cancelled"}); err != nil {
		return device.CommandRecord{}, err
	}
	return a.find(id).record(), nil
}

// Watch calls fn with the command as it stands and then after every transition,
// and returns after the terminal one, or with fn's error, or when ctx ends.
// fn may be slow; no transition is left out.
func (s *Service) Watch(ctx context.Context, id device.ID, cmd string, fn func(device.CommandRecord) error) error {
	w := &watcher{ready: make(chan struct{}, 1)}
	s.mu.Lock()
	s.watchers[cmd] = append(s.watchers[cmd], w)
	s.mu.Unlock()
	defer s.unwatch(cmd, w)

	f, err := s.locate(ctx, id, cmd)
	if err != nil {
		return err
	}
	if err := fn(f.record); err != nil || f.ended {
		return err
	}
	c := live{cmd: &f.record.Command, state: stateOf(&f.record), events: f.record.Events[1:]}
	for !c.state.Terminal() {
		select {
		case <-w.ready:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return device.Errorf(device.Unavailable, "the server is stopping")
		}
		for _, ev := range w.take() {
			if ev.Position.Seq <= f.seen || c.state.Terminal() {
				continue
			}
			c.fold(ev.CommandEvent)
			if err := fn(c.record()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Heed calls fn with every transition of any command, as this node reads them,
// from now on and in order, until stop is called. fn must not block, nor call the
// Service.
func (s *Service) Heed(fn func(device.StoredEvent)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heeds[&fn] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.heeds, &fn)
	}
}

// watcher gathers what happened to one command since it was last asked.
type watcher struct {
	ready chan struct{}
	mu    sync.Mutex
	news  []device.StoredEvent
}

func (w *watcher) add(ev device.StoredEvent) {
	w.mu.Lock()
	w.news = append(w.news, ev)
	w.mu.Unlock()
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

func (w *watcher) take() []device.StoredEvent {
	w.mu.Lock()
	defer w.mu.Unlock()
	news := w.news
	w.news = nil
	return news
}

func (s *Service) unwatch(cmd string, w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := s.watchers[cmd][:0:0]
	for _, other := range s.watchers[cmd] {
		if other != w {
			rest = append(rest, other)
		}
	}
	if len(rest) == 0 {
		delete(s.watchers, cmd)
	} else {
		s.watchers[cmd] = rest
	}
}
