package command

import (
	"time"

	"github.com/tributary-iot/tributary/device"
)

// Kind says what happened to a command.
type Kind uint8

// The things that can happen to a command.
const (
	Offer       Kind = iota + 1 // the session that holds the lease takes it
	Accept                      // the device has it (PUBACK, accepted, :accept)
	Unconfirm                   // it was written, and the protocol gives no receipt
	Reject                      // the device will not take it
	Release                     // the device says: not now
	LockExpire                  // the HTTP lock ran out
	SessionLost                 // every session up to and including Epoch is gone
	Cancel                      // the sender withdraws it
	Answer                      // the device answered
	Tick                        // time has passed: it is At now
	lastKind    = Tick
)

// Event is one thing that happens to a command.
type Event struct {
	Kind    Kind
	At      time.Time
	Epoch   device.Epoch // Offer and settlements: the acting session's; SessionLost: the newest lost
	Attempt int          // settlements: the delivery they are about
	Status  int          // Answer: HTTP-like, 2xx is success
	Digest  uint64       // Answer: of its content, so that the same answer again is known; not 0
}

// State is where a command stands, with all that decides what may come next.
// It is a value: Next never changes the one it is given.
type State struct {
	State   device.CommandState
	Attempt int          // deliveries begun
	Epoch   device.Epoch // of the newest delivery; zero before the first
	Since   time.Time    // of the last transition
	Digest  uint64       // of the device's answer; 0 while there is none
	RetryAt time.Time    // QUEUED again: not offered before; zero when at once

	OneWay          bool
	Deadline        time.Time
	ResponseTimeout time.Duration
	MaxAttempts     int // 0: any number
	RetryPause      time.Duration
	Order           device.Order
}

// Begin is the state of a command that was just created.
func Begin(c *device.Command) State {
	return State{
		State: device.StateQueued, Since: c.CreatedAt,
		OneWay: c.OneWay, Deadline: c.Deadline, ResponseTimeout: c.ResponseTimeout,
		MaxAttempts: c.MaxAttempts, RetryPause: c.RetryPause, Order: c.Order,
	}
}

// Terminal reports whether the command has ended.
func (s State) Terminal() bool { return s.State.Terminal(s.OneWay) }

// Due is when a Tick will change the state; zero when none ever will.
func (s State) Due() time.Time {
	switch {
	case s.Terminal() || s.State == device.StateNone:
		return time.Time{}
	case s.State == device.StateDelivered:
		return s.Since.Add(s.ResponseTimeout)
	}
	return s.Deadline
}

// HoldsLine reports whether those behind the command in its device's line still
// wait for it.
func (s State) HoldsLine() bool {
	switch s.Order {
	case device.UntilDelivered:
		return s.State == device.StateQueued || s.State == device.StateSent
	case device.UntilResponse:
		return !s.Terminal()
	}
	return false
}

// defaultRetryPause stands where a command says none.
const defaultRetryPause = 100 * time.Millisecond

// pause is how long the command is left alone after its nth failed attempt:
// RetryPause, doubled with every one up to 64-fold.
func (s State) pause(n int) time.Duration {
	first := s.RetryPause
	if first <= 0 {
		first = defaultRetryPause
	}
	return first << min(n-1, 6)
}

// Effect is what the caller of Next has to do, in the order given.
type Effect uint8

// The effects.
const (
	Append Effect = iota + 1 // make the transition durable; nothing below is done before it is
	Hand                     // give the command to the session that asked
	Wake                     // it waits for a session again: offer it when there is credit, not before RetryAt
	End                      // it has ended: remove the request once the store has it all
)

// Next is the table of a command's life (design, section 4). It answers the
// state after the event and what is to be done about it. No effects and no
// error mean the event changes nothing and is no fault: a timer that came too
// early, a receipt or an answer heard before, a session lost after the receipt.
// Errors are of code Conflict (somebody else acted first) or Precondition (not
// in this state), and leave the state as it was.
func Next(s State, e Event) (State, []Effect, error) {
	if s.Terminal() {
		return s, nil, afterEnd(s, e)
	}
	switch s.State {
	case device.StateQueued:
		return fromQueued(s, e)
	case device.StateSent:
		return fromSent(s, e)
	case device.StateDelivered:
		return fromDelivered(s, e)
	}
	return s, nil, device.Errorf(device.NotFound, "there is no such command")
}

func fromQueued(s State, e Event) (State, []Effect, error) {
	switch e.Kind {
	case Offer:
		if e.Epoch.Before(s.Epoch) {
			return s, nil, device.Errorf(device.Conflict, "a newer session has taken over the device")
		}
		if !e.At.Before(s.Deadline) { // its timer is late: it must not be delivered
			return end(s, e, device.StateExpired)
		}
		if e.At.Before(s.RetryAt) {
			return s, nil, nil
		}
		s.Attempt++
		s.Epoch = e.Epoch
		return to(s, e, device.StateSent, Hand)
	case Cancel:
		return end(s, e, device.StateCancelled)
	case Tick:
		if !e.At.Before(s.Deadline) {
			return end(s, e, device.StateExpired)
		}
		return s, nil, nil
	case SessionLost:
		return s, nil, nil
	case Answer:
		return s, nil, device.Errorf(device.Precondition, "the command is queued: it has to be delivered before it is answered")
	}
	return s, nil, staleDelivery(s)
}

func fromSent(s State, e Event) (State, []Effect, error) {
	switch e.Kind {
	case Offer:
		return s, nil, device.Errorf(device.Conflict, "the command is held by another session")
	case Cancel:
		return s, nil, device.Errorf(device.Precondition, "the command was already sent: only a queued command can be cancelled")
	case Tick:
		if !e.At.Before(s.Deadline) {
			return end(s, e, device.StateExpired)
		}
		return s, nil, nil
	case SessionLost:
		if e.Epoch.Before(s.Epoch) {
			return s, nil, nil
		}
		return again(s, e, s.Attempt-1)
	case Answer: // it overtook the receipt
		return answered(s, e)
	}
	if !s.same(e) {
		return s, nil, staleDelivery(s)
	}
	switch e.Kind {
	case Accept, Unconfirm:
		if s.OneWay {
			return end(s, e, device.StateDelivered)
		}
		return to(s, e, device.StateDelivered)
	case Reject:
		return end(s, e, device.StateRejected)
	case LockExpire:
		return again(s, e, s.Attempt-1)
	case Release:
		return again(s, e, s.Attempt)
	}
	return s, nil, staleDelivery(s)
}

// again puts a command whose attempt came to nothing back in the queue, to be
// offered after a pause, or ends it when its attempts are used up. A device that
// releases is left alone from the first time on; one whose session was lost,
// or whose lock ran out, from the second: most often it is back at once, and
// well.
func again(s State, e Event, failed int) (State, []Effect, error) {
	if s.MaxAttempts > 0 && s.Attempt >= s.MaxAttempts {
		return end(s, e, device.StateExpired)
	}
	s, effects, err := to(s, e, device.StateQueued, Wake)
	if failed > 0 {
		s.RetryAt = e.At.Add(s.pause(failed))
	}
	return s, effects, err
}

// fromDelivered is for commands that expect an answer; others have ended.
func fromDelivered(s State, e Event) (State, []Effect, error) {
	switch e.Kind {
	case Answer:
		return answered(s, e)
	case Cancel:
		return s, nil, device.Errorf(device.Precondition, "the command was already delivered: only a queued command can be cancelled")
	case Tick:
		if !e.At.Before(s.Due()) {
			return end(s, e, device.StateFailed)
		}
		return s, nil, nil
	case SessionLost:
		return s, nil, nil
	case Accept, Unconfirm:
		if s.same(e) {
			return s, nil, nil
		}
	}
	return s, nil, staleDelivery(s)
}

// afterEnd judges what comes after the terminal event: a repeat of what led
// there is harmless, so that peers may say it again when they missed our word.
func afterEnd(s State, e Event) error {
	switch e.Kind {
	case Tick, SessionLost:
		return nil
	case Cancel:
		if s.State == device.StateCancelled {
			return nil
		}
		return device.Errorf(device.Precondition, "the command has ended as %s: only a queued command can be cancelled", s.State)
	case Answer:
		if s.Digest != 0 && s.Digest == e.Digest {
			return nil
		}
		return device.Errorf(device.Precondition, "the command has ended as %s: it takes no further answer", s.State)
	case Accept, Unconfirm: // the receipt of a delivery whose answer came first
		reached := s.State == device.StateDelivered || s.State == device.StateSucceeded || s.State == device.StateFailed
		if reached && s.same(e) {
			return nil
		}
	case Reject:
		if s.State == device.StateRejected && s.same(e) {
			return nil
		}
	}
	return device.Errorf(device.Conflict, "the command has ended as %s", s.State)
}

func answered(s State, e Event) (State, []Effect, error) {
	s.Digest = e.Digest
	if e.Status >= 200 && e.Status <= 299 {
		return end(s, e, device.StateSucceeded)
	}
	return end(s, e, device.StateFailed)
}

func (s State) same(e Event) bool { return s.Epoch == e.Epoch && s.Attempt == e.Attempt }

func to(s State, e Event, state device.CommandState, then ...Effect) (State, []Effect, error) {
	s.State, s.Since, s.RetryAt = state, e.At, time.Time{}
	return s, append([]Effect{Append}, then...), nil
}

func end(s State, e Event, state device.CommandState) (State, []Effect, error) {
	return to(s, e, state, End)
}

func staleDelivery(s State) error {
	return device.Errorf(device.Conflict, "this session no longer holds that delivery: the command is %s, attempt %d", s.State, s.Attempt)
}
