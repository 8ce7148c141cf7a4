package command_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/device"
)

var (
	t0      = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ended   = t0.Add(time.Hour)   // the deadline
	silent  = t0.Add(time.Minute) // the answer's time-out, DELIVERED at t0
	session = device.Epoch{Generation: 2, Revision: 7}
	newer   = device.Epoch{Generation: 3, Revision: 1}
	older   = device.Epoch{Generation: 2, Revision: 6}
)

func state(s device.CommandState, oneWay bool) command.State {
	st := command.State{State: s, Since: t0, OneWay: oneWay, Deadline: ended, ResponseTimeout: time.Minute}
	if s != device.StateQueued && s != device.StateNone && s != device.StateCancelled {
		st.Attempt, st.Epoch = 1, session
	}
	if s == device.StateSucceeded || s == device.StateFailed {
		st.Digest = 99
	}
	return st
}

// last is s with its attempts used up; paused is s until long after the table's
// events, but not its deadline.
func last(s command.State) command.State   { s.MaxAttempts = s.Attempt; return s }
func paused(s command.State) command.State { s.RetryAt = ended; return s }

// TestNextTable is the frozen table, and what is said to everything that is not
// in it: one row a state, one column an event. "." changes nothing, C is
// Conflict, P Precondition, N NotFound.
func TestNextTable(t *testing.T) {
	states := map[string]command.State{
		"NONE":       state(device.StateNone, false),
		"QUEUED":     state(device.StateQueued, false),
		"SENT":       state(device.StateSent, false),
		"SENT1":      state(device.StateSent, true),
		"LAST":       last(state(device.StateSent, false)),
		"PAUSED":     paused(state(device.StateQueued, false)),
		"DELIVERED":  state(device.StateDelivered, false),
		"DELIVERED1": state(device.StateDelivered, true),
		"REJECTED":   state(device.StateRejected, false),
		"EXPIRED":    state(device.StateExpired, false),
		"CANCELLED":  state(device.StateCancelled, false),
		"SUCCEEDED":  state(device.StateSucceeded, false),
		"FAILED":     state(device.StateFailed, false),
	}
	settle := func(k command.Kind) command.Event {
		return command.Event{Kind: k, At: t0.Add(time.Second), Epoch: session, Attempt: 1}
	}
	stale := func(k command.Kind) command.Event {
		return command.Event{Kind: k, At: t0.Add(time.Second), Epoch: newer, Attempt: 1}
	}
	wrong := func(k command.Kind) command.Event {
		return command.Event{Kind: k, At: t0.Add(time.Second), Epoch: session, Attempt: 2}
	}
	answer := func(status int, digest uint64) command.Event {
		return command.Event{Kind: command.Answer, At: t0.Add(time.Second), Status: status, Digest: digest}
	}
	events := map[string]command.Event{
		"offer":    {Kind: command.Offer, At: t0.Add(time.Second), Epoch: session},
		"late":     {Kind: command.Offer, At: ended, Epoch: session},
		"accept":   settle(command.Accept),
		"accept'":  stale(command.Accept),
		"accept\"": wrong(command.Accept),
		"unconf":   settle(command.Unconfirm),
		"reject":   settle(command.Reject),
		"reject'":  stale(command.Reject),
		"release":  settle(command.Release),
		"release'": wrong(command.Release),
		"lock":     settle(command.LockExpire),
		"lost":     {Kind: command.SessionLost, At: t0.Add(time.Second), Epoch: session},
		"lost-old": {Kind: command.SessionLost, At: t0.Add(time.Second), Epoch: older},
		"cancel":   {Kind: command.Cancel, At: t0.Add(time.Second)},
		"200":      answer(200, 5),
		"500":      answer(500, 5),
		"again":    answer(200, 99),
		"soon":     {Kind: command.Tick, At: t0.Add(time.Second)},
		"silence":  {Kind: command.Tick, At: silent},
		"deadline": {Kind: command.Tick, At: ended},
	}
	const table = `
            offer late    accept    accept' accept" unconf    reject   reject' release release' lock   lost   lost-old cancel    200       500    again     soon silence deadline
NONE        N     N       N         N       N       N         N        N       N       N        N      N      N        N         N         N      N         N    N       N
QUEUED      SENT  EXPIRED C         C       C       C         C        C       C       C        C      .      .        CANCELLED P         P      P         .    .       EXPIRED
SENT        C     C       DELIVERED C       C       DELIVERED REJECTED C       QUEUED  C        QUEUED QUEUED .        P         SUCCEEDED FAILED SUCCEEDED .    .       EXPIRED
SENT1       C     C       DELIVERED C       C       DELIVERED REJECTED C       QUEUED  C        QUEUED QUEUED .        P         SUCCEEDED FAILED SUCCEEDED .    .       EXPIRED
LAST        C     C       DELIVERED C       C       DELIVERED REJECTED C       EXPIRED C        EXPIRED EXPIRED .       P         SUCCEEDED FAILED SUCCEEDED .    .       EXPIRED
PAUSED      .     EXPIRED C         C       C       C         C        C       C       C        C      .      .        CANCELLED P         P      P         .    .       EXPIRED
DELIVERED   C     C       .         C       C       .         C        C       C       C        C      .      .        P         SUCCEEDED FAILED SUCCEEDED .    FAILED  FAILED
DELIVERED1  C     C       .         C       C       .         C        C       C       C        C      .      .        P         P         P      P         .    .       .
REJECTED    C     C       C         C       C       C         .        C       C       C        C      .      .        P         P         P      P         .    .       .
EXPIRED     C     C       C         C       C       C         C        C       C       C        C      .      .        P         P         P      P         .    .       .
CANCELLED   C     C       C         C       C       C         C        C       C       C        C      .      .        .         P         P      P         .    .       .
SUCCEEDED   C     C       .         C       C       .         C        C       C       C        C      .      .        P         P         P      .         .    .       .
FAILED      C     C       .         C       C       .         C        C       C       C        C      .      .        P         P         P      .         .    .       .
`
	lines := strings.Split(strings.TrimSpace(table), "\n")
	columns := strings.Fields(lines[0])
	if len(columns) != len(events) || len(lines)-1 != len(states) {
		t.Fatalf("the table has %d columns and %d rows for %d events and %d states", len(columns), len(lines)-1, len(events), len(states))
	}
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		for i, want := range cells[1:] {
			s, e := states[cells[0]], events[columns[i]]
			next, effects, err := command.Next(s, e)
			if got := outcome(s, next, effects, err); got != want {
				t.Errorf("%s + %s = %s (%v), want %s", cells[0], columns[i], got, err, want)
			}
			check(t, s, e, next, effects, err)
		}
	}
}

func outcome(s, next command.State, effects []command.Effect, err error) string {
	switch {
	case err != nil:
		return map[device.Code]string{device.Conflict: "C", device.Precondition: "P", device.NotFound: "N"}[device.CodeOf(err)]
	case len(effects) == 0 && next == s:
		return "."
	}
	return next.State.String()
}

// check holds for every step whatsoever.
func check(t *testing.T, s command.State, e command.Event, next command.State, effects []command.Effect, err error) {
	t.Helper()
	fail := func(what string) { t.Errorf("%s: %+v + %+v = %+v, %v, %v", what, s, e, next, effects, err) }
	if err != nil && (next != s || len(effects) != 0) {
		fail("a refusal changes something")
	}
	if len(effects) == 0 {
		if next != s {
			fail("a change without effects")
		}
		return
	}
	if effects[0] != command.Append {
		fail("something is done before the transition is durable")
	}
	if s.Terminal() {
		fail("an ended command changed")
	}
	if slices.Contains(effects, command.End) != next.Terminal() {
		fail("End and the terminal state do not go together")
	}
	if slices.Contains(effects, command.Hand) != (next.State == device.StateSent) {
		fail("Hand and SENT do not go together")
	}
	if slices.Contains(effects, command.Wake) != (next.State == device.StateQueued) {
		fail("QUEUED is not offered again")
	}
	want := s.Attempt
	if e.Kind == command.Offer && next.State == device.StateSent {
		want++
	}
	if next.Attempt != want {
		fail("the attempt is miscounted")
	}
	if next.Terminal() == next.Due().IsZero() == false {
		fail("a command that has not ended has no deadline, or an ended one has")
	}
	if pause := next.RetryAt; !pause.IsZero() && (next.State != device.StateQueued || !pause.After(e.At) || pause.After(e.At.Add(64*100*time.Millisecond))) {
		fail("the pause is not one of a queued command, or out of bounds")
	}
	if s.MaxAttempts > 0 && next.Attempt > s.MaxAttempts {
		fail("more attempts than allowed")
	}
	if !next.Since.Equal(e.At) {
		fail("the time of the transition is not the event's")
	}
}

// walk drives one command through random events and holds its whole life to
// what is promised.
func walk(t *testing.T, oneWay bool, steps []byte) {
	s := command.Begin(&device.Command{CreatedAt: t0, Deadline: ended, OneWay: oneWay, ResponseTimeout: time.Minute, MaxAttempts: len(steps) % 4})
	epoch, at, settled, hands := session, t0, 0, 0
	for _, b := range steps {
		e := command.Event{Kind: command.Kind(b%10) + 1, Epoch: epoch, Attempt: s.Attempt, Status: 100 + int(b)*2, Digest: uint64(b) | 1}
		switch b >> 5 {
		case 0:
			epoch.Revision++
		case 1:
			e.Attempt--
		case 2:
			e.Epoch.Revision--
		case 3:
			at = at.Add(10 * time.Minute)
		}
		at = at.Add(time.Second)
		e.At = at
		next, effects, err := command.Next(s, e)
		check(t, s, e, next, effects, err)
		if slices.Contains(effects, command.End) {
			settled++
		}
		if slices.Contains(effects, command.Hand) {
			hands++
			if !at.Before(ended) {
				t.Error("handed over after the deadline")
			}
			if e.Epoch.Before(s.Epoch) {
				t.Error("handed to an older session")
			}
		}
		s = next
	}
	if settled > 1 || s.Attempt != hands {
		t.Errorf("ended %d times, attempt %d after %d deliveries", settled, s.Attempt, hands)
	}
	if at.After(ended) && !s.Terminal() { // time alone ends every command
		for range 2 {
			at = at.Add(time.Hour)
			s, _, _ = command.Next(s, command.Event{Kind: command.Tick, At: at})
		}
		if !s.Terminal() {
			t.Errorf("%+v is not ended by time", s)
		}
	}
}

func TestNextWalks(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		steps := make([]byte, rng.IntN(40))
		for i := range steps {
			steps[i] = byte(rng.Uint32())
		}
		walk(t, rng.IntN(2) == 0, steps)
	}
}

func FuzzNext(f *testing.F) {
	f.Add(false, []byte{0xe0, 0xe1, 0xe8})
	f.Add(true, []byte{0xe0, 0xe6, 0x00, 0xe5, 0xe0, 0xe2})
	f.Fuzz(walk)
}
