package adaptertest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tributary-iot/tributary/device"
)

// The rules of the way up.
var telemetryRules = []rule{
	{name: "acknowledges last", run: acknowledgesLast},
	{name: "refuses what the house refuses", gate: refuseAsTold, run: refusesInWords},
	{name: "stamps who the connection is", run: stampsIdentity},
	{name: "lets nobody speak for another", run: speaksForItself},
	{name: "turns a wrong secret away", run: wrongSecret},
	{name: "turns everybody away while identity is unknown", gate: unknownIdentity, run: identityOutage},
	{name: "keeps payloads apart", run: payloadsApart},
	{name: "outlives a client that left before its ack", run: leftBeforeAck},
}

// held is a message whose done the test keeps.
type held struct {
	message *device.Message
	done    func(error)
}

// hold makes the gate keep back every message with this payload, and store the
// rest at once. It must be called before a client connects.
func (s *scene) hold(payload string) <-chan held {
	kept := make(chan held, 16)
	s.gate.update(func() {
		s.gate.OnSubmit = func(m *device.Message, done func(error)) error {
			if string(m.Payload) == payload {
				kept <- held{m, done}
				return nil
			}
			s.gate.Store(m)
			go done(nil)
			return nil
		}
	})
	return kept
}

// sending sends in the background and answers where its outcome will come.
func (s *scene) sending(c Client, payload string) <-chan error {
	outcome := make(chan error, 1)
	go func() { outcome <- c.Send(s.ctx, "", []byte(payload)) }()
	return outcome
}

func acknowledgesLast(s *scene) error {
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
	// Whole round trips of somebody else pass before the store says yes: an ack
	// sent too early has had every chance to arrive.
	for range 5 {
		if err := s.deliver(bob, "quick"); err != nil {
			return err
		}
	}
	select {
	case err := <-outcome:
		return fmt.Errorf("the sender was answered (%v) before the message was stored", err)
	default:
	}
	s.gate.Store(waiting.message)
	waiting.done(nil)
	if answer, err := await(s, "the ack", outcome); err != nil || answer != nil {
		return fmt.Errorf("a stored message was not acknowledged: %w", errors.Join(err, answer))
	}
	return nil
}

// refuseAsTold answers each message with the code it names, at once or later.
func refuseAsTold(g *Gate) {
	g.OnSubmit = func(m *device.Message, done func(error)) error {
		when, what, _ := strings.Cut(string(m.Payload), " ")
		for code := device.Internal; code <= device.Unavailable; code++ {
			if code.String() != what {
				continue
			}
			if err := device.Errorf(code, "refused by the test"); when == "submit" {
				return err
			} else {
				go done(err)
			}
			return nil
		}
		g.Store(m)
		go done(nil)
		return nil
	}
}

func refusesInWords(s *scene) error {
	for _, payload := range []string{
		"submit busy", "submit unavailable", "submit invalid",
		"done invalid", "done too-large", "done unavailable", "done internal",
	} {
		c, err := s.dial(alice)
		if err != nil {
			return err
		}
		err = c.Send(s.ctx, "", []byte(payload))
		c.Close()
		if err == nil {
			return fmt.Errorf("a message refused with %q was acknowledged", payload)
		}
		if s.ctx.Err() != nil {
			return fmt.Errorf("a message refused with %q was answered with silence", payload)
		}
	}
	if err := s.deliver(alice, "fine"); err != nil {
		return fmt.Errorf("after refusals: %w", err)
	}
	return nil
}

func stampsIdentity(s *scene) error {
	const claim = `{"tenant":"other","device":"bob","via":"bob","temperature":21.5}`
	if err := s.deliver(alice, claim); err != nil {
		return err
	}
	stored := s.gate.Stored()
	if len(stored) != 1 {
		return fmt.Errorf("%d messages stored, want 1", len(stored))
	}
	m := stored[0]
	switch {
	case m.ID() != idOf(alice) || m.Via != "":
		return fmt.Errorf("the message is of %s via %q, want %s: identity comes from the connection", m.ID(), m.Via, idOf(alice))
	case m.Protocol == "" || m.ReceivedAt.IsZero():
		return fmt.Errorf("the message has protocol %q and was received at %s: both are the adapter's to set", m.Protocol, m.ReceivedAt)
	case string(m.Payload) != claim:
		return fmt.Errorf("the payload was altered: %q", m.Payload)
	case !slices.ContainsFunc(m.Measurements, func(v device.Measurement) bool { return v.Name == "temperature" && v.Value == device.Double(21.5) }):
		return fmt.Errorf("the measurements are %v, want temperature 21.5 among them", m.Measurements)
	}
	return nil
}

func speaksForItself(s *scene) error {
	c, err := s.dial(alice)
	if err != nil {
		return err
	}
	if err := c.Send(s.ctx, bob.User, []byte("as bob")); err == nil {
		return errors.New("alice could send as bob")
	}
	if kept := s.keptPayloads(); len(kept) > 0 {
		return fmt.Errorf("%q was stored", kept)
	}
	if err := s.until("the refusal left its trail", func() bool { return len(s.gate.Refusals()) > 0 }); err != nil {
		return err
	}
	r := s.gate.Refusals()[0]
	if device.CodeOf(r.Err) != device.Forbidden || r.Device != idOf(alice) || r.Protocol == "" || !strings.Contains(r.Address, bob.User) || string(r.Raw) != "as bob" {
		return fmt.Errorf("the refusal says %s of %s at %q (%s): %q; want code forbidden, the authenticated device, the address and the bytes as sent",
			device.CodeOf(r.Err), r.Device, r.Address, r.Protocol, r.Raw)
	}
	return s.deliver(alice, "as alice")
}

// turnedAway wants a login to reach nothing.
func (s *scene) turnedAway(login Login) error {
	c, err := s.dial(login)
	if err == nil {
		err = c.Send(s.ctx, "", []byte("let me in"))
	}
	if err == nil {
		return fmt.Errorf("%s was let in", login.User)
	}
	if s.ctx.Err() != nil {
		return fmt.Errorf("%s was answered with silence", login.User)
	}
	if kept, trail := s.keptPayloads(), s.gate.Refusals(); len(kept) > 0 || len(trail) > 0 {
		return fmt.Errorf("a failed authentication left %d messages and %d refusals: it is only counted", len(kept), len(trail))
	}
	return nil
}

func wrongSecret(s *scene) error {
	for _, login := range []Login{{alice.User, bob.Secret}, {"mallory", alice.Secret}} {
		if err := s.turnedAway(login); err != nil {
			return err
		}
	}
	return s.deliver(alice, "mine")
}

func unknownIdentity(g *Gate) {
	g.AuthErr = device.Errorf(device.Unavailable, "the registry is away")
}

func identityOutage(s *scene) error { return s.turnedAway(alice) }

func payloadsApart(s *scene) error {
	c, err := s.dial(alice)
	if err != nil {
		return err
	}
	var want []string
	for i := range 40 {
		payload := fmt.Sprintf("%03d %s", i, strings.Repeat(string(rune('a'+i%26)), 1+i*37%400))
		if err := c.Send(s.ctx, "", []byte(payload)); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
		want = append(want, payload)
	}
	if got := s.keptPayloads(); !slices.Equal(got, want) {
		return fmt.Errorf("payloads changed after they were submitted, or their order did: the house owns them, so no buffer may be used again\n got %.120q\nwant %.120q", got, want)
	}
	return nil
}

func leftBeforeAck(s *scene) error {
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
	c.Close()
	if gone, err := await(s, "the client to notice that it is closed", outcome); err != nil || gone == nil {
		return fmt.Errorf("a closed client got an ack: %w", err)
	}
	waiting.done(nil)
	return s.deliver(bob, "next")
}
