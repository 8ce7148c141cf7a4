package adaptertest

import (
	"errors"
	"fmt"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// The rules of the way down.
var commandRules = []rule{
	{name: "settles a command exactly once", run: settlesOnce},
	{name: "gives back what was not settled", run: givesBack},
	{name: "hurts no newer session", run: lateSettle},
}

// The rules of coming and going.
var lifeRules = []rule{
	{name: "drains what it accepted", run: drains},
	{name: "may be stopped twice", run: stopsTwice},
	{name: "may be stopped before it serves", run: stopsUnserved},
}

// order queues a command for alice.
func (s *scene) order(id string) device.Command {
	now := time.Now()
	c := device.Command{
		ID: id, Tenant: device.DefaultTenant, Device: alice.User, Name: "heat", Payload: []byte(`{"on":true}`),
		ContentType: "application/json", CreatedAt: now, Deadline: now.Add(time.Hour), ResponseTimeout: time.Minute,
	}
	s.gate.Send(c)
	return c
}

// receive connects as alice and waits for the command.
func (s *scene) receive(want device.Command, repeat bool) (Client, Received, error) {
	c, err := s.dial(alice)
	if err != nil {
		return nil, Received{}, err
	}
	got, err := c.Receive(s.ctx)
	if err != nil {
		return nil, Received{}, fmt.Errorf("receive: %w", err)
	}
	if got.ID != want.ID || string(got.Payload) != string(want.Payload) || got.Repeat != repeat {
		return nil, Received{}, fmt.Errorf("received %s %q (repeat %v), want %s %q (repeat %v)", got.ID, got.Payload, got.Repeat, want.ID, want.Payload, repeat)
	}
	return c, got, nil
}

// accepted wants the gate to have heard of exactly one end of the command.
func (s *scene) accepted(id string, attempt int) error {
	if err := s.until("the command was settled", func() bool { return s.accepts(id) > 0 }); err != nil {
		return err
	}
	for _, settled := range s.gate.SettledAll() {
		if settled.Outcome.Kind == device.Accepted && (settled.Command != id || settled.Attempt != attempt) {
			return fmt.Errorf("command %s was accepted as attempt %d, want %s as attempt %d", settled.Command, settled.Attempt, id, attempt)
		}
	}
	if n := s.accepts(id); n != 1 {
		return fmt.Errorf("command %s was settled %d times", id, n)
	}
	return nil
}

func (s *scene) accepts(id string) int {
	n := 0
	for _, settled := range s.gate.SettledAll() {
		if settled.Command == id && settled.Outcome.Kind == device.Accepted {
			n++
		}
	}
	return n
}

func settlesOnce(s *scene) error {
	want := s.order("01J0000000000000000000000A")
	c, got, err := s.receive(want, false)
	if err != nil {
		return err
	}
	if n := len(s.gate.SettledAll()); n > 0 {
		return fmt.Errorf("%d settled before the device said anything", n)
	}
	if err := got.Accept(s.ctx); err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	if err := s.accepted(want.ID, 1); err != nil {
		return err
	}
	c.Close()
	if err := s.until("the session was detached", func() bool { return s.gate.Sessions(idOf(alice)) == 0 }); err != nil {
		return err
	}
	if n := s.gate.Queued(idOf(alice)); n != 0 {
		return errors.New("a settled command went back to the queue when the session ended")
	}
	return s.accepted(want.ID, 1)
}

func givesBack(s *scene) error {
	want := s.order("01J0000000000000000000000B")
	c, _, err := s.receive(want, false)
	if err != nil {
		return err
	}
	c.Close()
	if err := s.until("the session was detached", func() bool { return s.gate.Sessions(idOf(alice)) == 0 }); err != nil {
		return err
	}
	if n := s.gate.Queued(idOf(alice)); n != 1 {
		return fmt.Errorf("%d commands wait after the session ended without settling, want 1", n)
	}
	_, again, err := s.receive(want, true)
	if err != nil {
		return fmt.Errorf("the second session: %w", err)
	}
	if err := again.Accept(s.ctx); err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	return s.accepted(want.ID, 2)
}

func lateSettle(s *scene) error {
	want := s.order("01J0000000000000000000000C")
	_, late, err := s.receive(want, false)
	if err != nil {
		return err
	}
	_, newer, err := s.receive(want, true)
	if err != nil {
		return fmt.Errorf("the newer session: %w", err)
	}
	// The adapter may have closed the older connection, or say that it is too
	// late, or say nothing: only the newer session's word counts.
	_ = late.Accept(s.ctx)
	if n := s.accepts(want.ID); n != 0 {
		return errors.New("a session that had lost the command could still settle it")
	}
	if err := newer.Accept(s.ctx); err != nil {
		return fmt.Errorf("accept in the newer session: %w", err)
	}
	return s.accepted(want.ID, 2)
}

func drains(s *scene) error {
	submitted := s.hold("slow")
	c, err := s.dial(alice)
	if err != nil {
		return err
	}
	outcome := s.sending(c, "slow")
	waiting, err := await(s, "the message to be submitted", submitted)
	if err != nil {
		return err
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.adapter.Shutdown(s.ctx) }()
	for s.deliver(bob, "quick") == nil { // until nobody new is let in
		if s.ctx.Err() != nil {
			return errors.New("the adapter goes on accepting after Shutdown was called")
		}
	}
	s.gate.Store(waiting.message)
	waiting.done(nil)
	if answer, err := await(s, "the ack of what was accepted before Shutdown", outcome); err != nil || answer != nil {
		return fmt.Errorf("what was accepted before Shutdown was not acknowledged: %w", errors.Join(err, answer))
	}
	c.Close()
	if answer, err := await(s, "Shutdown to return", stopped); err != nil || answer != nil {
		return fmt.Errorf("shutdown: %w", errors.Join(err, answer))
	}
	if answer, err := await(s, "Serve to return", s.served); err != nil || answer != nil {
		return fmt.Errorf("serve after shutdown: %w", errors.Join(err, answer))
	}
	return nil
}

func stopsTwice(s *scene) error {
	if err := s.deliver(alice, "hello"); err != nil {
		return err
	}
	for range 2 {
		if err := s.adapter.Shutdown(s.ctx); err != nil {
			return fmt.Errorf("shutdown: %w", err)
		}
	}
	answer, err := await(s, "Serve to return", s.served)
	return errors.Join(err, answer)
}

func stopsUnserved(s *scene) error {
	unserved, err := s.subject.Open(s.gate)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if len(unserved.Addrs()) == 0 {
		return errors.New("no listener is named by Addrs before Serve")
	}
	if err := unserved.Shutdown(s.ctx); err != nil {
		return fmt.Errorf("shutdown before serve: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- unserved.Serve() }()
	answer, err := await(s, "Serve after Shutdown to return", served)
	return errors.Join(err, answer)
}
