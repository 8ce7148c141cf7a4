package command

import (
	"context"
	"errors"

	"github.com/tributary-iot/tributary/device"
)

var settlements = map[device.OutcomeKind]Kind{
	device.Accepted:    Accept,
	device.Unconfirmed: Unconfirm,
	device.Rejected:    Reject,
	device.Released:    Release,
	device.LockExpired: LockExpire,
}

// Settle ends a delivery. Beyond the contract: settling again with the same
// outcome, and a receipt that comes after the answer it belongs to, are done(nil).
func (t *session) Settle(id string, attempt int, o device.Outcome, done func(error)) {
	if done == nil {
		done = func(error) {}
	}
	kind, ok := settlements[o.Kind]
	if !ok {
		done(device.Errorf(device.Invalid, "outcome %d is not one of the known", o.Kind))
		return
	}
	t.s.with(t.who.Device, func(a *actor, err error) {
		if err != nil {
			// held stays: nothing was settled, and the adapter may try again.
			done(err)
			return
		}
		done(a.settle(t, id, attempt, kind, o))
	})
}

func (a *actor) settle(t *session, id string, attempt int, kind Kind, o device.Outcome) error {
	c := a.find(id)
	if c == nil {
		return errGone
	}
	if attempt < 1 || attempt > c.state.Attempt {
		return device.Errorf(device.NotFound, "command %s was never delivered as attempt %d", id, attempt)
	}
	if t.epoch == (device.Epoch{}) {
		return device.Errorf(device.Conflict, "a newer session has taken over the device")
	}
	if err := t.mayAct(); err != nil {
		return err
	}
	effects, err := a.apply(id, transition{
		Event:    Event{Kind: kind, At: now(), Epoch: t.epoch, Attempt: attempt},
		protocol: t.who.Protocol, via: t.who.Via, reason: o.Reason,
	})
	if err != nil && device.CodeOf(err) == device.Unavailable {
		return err
	}
	if t.held[id] == attempt {
		delete(t.held, id)
	}
	if err == nil && len(effects) == 1 {
		a.pump()
	}
	return err
}

// Respond records a device's answer; see adapters.Gate. The same answer again,
// as a device sends it that missed our receipt, is done(nil).
func (s *Service) Respond(r device.Response, done func(error)) {
	if done == nil {
		done = func(error) {}
	}
	switch {
	case r.Status < 100 || r.Status > 599:
		done(device.Errorf(device.Invalid, "status %d is not one of 100 to 599", r.Status))
		return
	case len(r.Payload) > s.cfg.MaxPayload:
		done(device.Errorf(device.TooLarge, "the answer is %d bytes long, the limit is %d", len(r.Payload), s.cfg.MaxPayload))
		return
	}
	if err := r.Device.Validate(); err != nil {
		done(err)
		return
	}
	s.with(r.Device, func(a *actor, err error) {
		if err == nil {
			err = a.answer(&r)
		}
		if !errors.Is(err, errGone) {
			if a.loaded {
				a.spoke(r.Via) // after the answer: what was answered is not offered again
			}
			done(err)
			return
		}
		// Not in the mailbox: it has ended long ago, or was sent through another
		// node a moment ago. Both take asking, which this queue shall not wait for.
		go func() {
			err := s.answerElsewhere(&r)
			s.Spoke(r.Device, r.Via)
			done(err)
		}()
	})
}

func (a *actor) answer(r *device.Response) error {
	t := transition{
		Event:    Event{Kind: Answer, At: now(), Status: r.Status, Digest: digest(r.Status, r.ContentType, r.Payload)},
		protocol: r.Protocol, via: r.Via, response: r,
	}
	_, err := a.apply(r.Command, t)
	if c := a.find(r.Command); c != nil && c.state.State == device.StateQueued && device.CodeOf(err) == device.Precondition {
		// It may have been sent through another node a moment ago.
		if err := a.load(); err != nil {
			return err
		}
		_, err = a.apply(r.Command, t)
	}
	if err == nil {
		for _, t := range a.stack {
			delete(t.held, r.Command)
		}
	}
	return err
}

func (s *Service) answerElsewhere(r *device.Response) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Timeout)
	defer cancel()
	f, err := s.locate(ctx, r.Device, r.Command)
	switch {
	case err != nil:
		return err
	case f.ended:
		_, _, err = Next(stateOf(&f.record), Event{Kind: Answer, Status: r.Status, Digest: digest(r.Status, r.ContentType, r.Payload)})
		return err
	}
	return s.do(ctx, r.Device, func(a *actor) error { return a.answer(r) })
}

// stateOf folds a record from the store.
func stateOf(r *device.CommandRecord) State {
	c := live{cmd: &r.Command, state: Begin(&r.Command)}
	for i, e := range r.Events {
		if i > 0 || e.State != device.StateQueued {
			c.fold(e)
		}
	}
	return c.state
}
