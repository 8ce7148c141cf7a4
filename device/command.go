package device

import (
	"strings"
	"time"
)

// Command is the immutable request: what somebody wants a device to do.
type Command struct {
	ID              string // ULID: sorts by creation time, unique for good
	Tenant          string
	Device          string
	Name            string // what to do, one level of a topic: no / + # or control characters; may be empty
	Payload         []byte
	ContentType     string
	Key             string // the sender's idempotency key; "" when it gave none
	CreatedAt       time.Time
	Deadline        time.Time     // not delivered by then: EXPIRED; never zero
	OneWay          bool          // no answer is expected: DELIVERED is the end
	ResponseTimeout time.Duration // after DELIVERED: FAILED when no answer came by then; unused when OneWay
	MaxAttempts     int           // deliveries begun at most, then EXPIRED; 0: as many as the deadline allows
	RetryPause      time.Duration // before it is offered again, see RetryAfter; 0: 100 ms
	Order           Order         // among the device's other commands
	Sender          string        // who asked, for the trail
}

// ForDevice names the device the command is for.
func (c *Command) ForDevice() ID { return ID{c.Tenant, c.Device} }

// Order says which of a device's other commands a command waits for. The
// numbers are stored: never renumber.
type Order uint8

// The orders. Commands of another order than Burst stand in one line, in the
// order they were sent: each is offered once the one before it has been
// delivered, or has ended, as that one's own order says. Burst commands pass the
// line and hold up nobody.
const (
	Burst          Order = 0 // offered as soon as the session asks
	UntilDelivered Order = 1 // those behind it in the line wait until it is DELIVERED, or has ended
	UntilResponse  Order = 2 // those behind it wait until it has ended
)

var orderNames = [...]string{"BURST", "ONE_AT_A_TIME_UNTIL_DELIVERED", "ONE_AT_A_TIME_UNTIL_RESPONSE"}

// String is the order as people see it.
func (o Order) String() string {
	if int(o) < len(orderNames) {
		return orderNames[o]
	}
	return orderNames[Burst]
}

// MaxAttemptsLimit bounds Command.MaxAttempts.
const MaxAttemptsLimit = 1000

// MaxCommandNameBytes bounds Command.Name.
const MaxCommandNameBytes = 128

// Validate checks names and bounds (not the payload's size, which is configured).
func (c *Command) Validate() error {
	if err := c.ForDevice().Validate(); err != nil {
		return err
	}
	if len(c.Name) > MaxCommandNameBytes {
		return Errorf(Invalid, "command name is %d bytes long, the limit is %d", len(c.Name), MaxCommandNameBytes)
	}
	if strings.ContainsAny(c.Name, "/+#") {
		return Errorf(Invalid, "command name %q contains one of / + #, which MQTT topics use: say it in the payload", c.Name)
	}
	if len(c.Key) > MaxKeyBytes {
		return Errorf(Invalid, "command key is %d bytes long, the limit is %d", len(c.Key), MaxKeyBytes)
	}
	if c.MaxAttempts < 0 || c.MaxAttempts > MaxAttemptsLimit {
		return Errorf(Invalid, "max attempts %d is not between 0 and %d", c.MaxAttempts, MaxAttemptsLimit)
	}
	if c.Order > UntilResponse {
		return Errorf(Invalid, "order %d is not one of the known", c.Order)
	}
	return validText("command name", c.Name)
}

// CommandState is where a command is in its one life (design: section
// "The life of a command"). The numbers are stored: never renumber.
type CommandState uint8

// The states. Rejected, Expired, Cancelled, Succeeded and Failed are terminal,
// and so is Delivered for a one-way command.
const (
	StateNone      CommandState = 0
	StateQueued    CommandState = 1 // waits for a session
	StateSent      CommandState = 2 // offered to the session that holds the lease
	StateDelivered CommandState = 3 // the device has it
	StateRejected  CommandState = 4 // the device will not take it
	StateExpired   CommandState = 5 // the deadline passed, or the attempts were used up, before delivery
	StateCancelled CommandState = 6 // withdrawn before it was sent
	StateSucceeded CommandState = 7 // answered with a 2xx status
	StateFailed    CommandState = 8 // answered with another status, or not in time
)

var stateNames = [...]string{"NONE", "QUEUED", "SENT", "DELIVERED", "REJECTED", "EXPIRED", "CANCELLED", "SUCCEEDED", "FAILED"}

// String is the state as people and metrics see it.
func (s CommandState) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "NONE"
}

// CommandEvent is one transition of a command, durable before it is visible.
// The event that creates a command is QUEUED with Request set.
type CommandEvent struct {
	Command     string // Command.ID
	Tenant      string
	Device      string
	State       CommandState // the state the command is in after the event
	At          time.Time
	Attempt     int       // deliveries begun, this one included; 0 before the first
	Protocol    Protocol  // of the session that caused it; "" when none did
	Via         string    // the gateway that session was of, or that brought the answer; "" when none did
	Node        string    // the node that wrote it
	Epoch       Epoch     // of the session's lease; zero when none
	Reason      string    // why, in words: "released", "session lost", "deadline"
	RetryAt     time.Time // back to QUEUED: not offered again before; zero when at once
	Unconfirmed bool      // DELIVERED on a protocol that gives no receipt
	Status      int       // SUCCEEDED, FAILED: the device's HTTP-like status; 0 when it never answered
	Response    []byte    // SUCCEEDED, FAILED: the device's answer
	ContentType string    // of Response
	Request     *Command  // set on the creating event as readers see it; not written by transitions
}

// ID names the device.
func (e *CommandEvent) ID() ID { return ID{e.Tenant, e.Device} }

// StoredEvent is a command event at its place in the stream.
type StoredEvent struct {
	CommandEvent
	Position Position
	StoredAt time.Time
}

// CommandRecord is a command with everything that happened to it so far.
type CommandRecord struct {
	Command Command
	Events  []CommandEvent // oldest first; the first is the creation
}

// Last is the newest event: where the command stands.
func (r *CommandRecord) Last() CommandEvent {
	if len(r.Events) == 0 {
		return CommandEvent{}
	}
	return r.Events[len(r.Events)-1]
}

// Terminal reports whether a command in this state will never change again.
func (s CommandState) Terminal(oneWay bool) bool {
	switch s {
	case StateRejected, StateExpired, StateCancelled, StateSucceeded, StateFailed:
		return true
	case StateDelivered:
		return oneWay
	}
	return false
}

// Epoch orders the sessions of a device: only the newest may act for it.
// Generation is raised whenever the bucket that counts revisions is made anew.
type Epoch struct {
	Generation uint64
	Revision   uint64
}

// Before reports whether e is older than f.
func (e Epoch) Before(f Epoch) bool {
	return e.Generation < f.Generation || e.Generation == f.Generation && e.Revision < f.Revision
}

// Session is one stay of a device at a door, able to receive commands.
type Session struct {
	Device   ID
	Via      string // the gateway it stands behind; "" when connected itself
	Protocol Protocol
	Client   string // MQTT client id, AMQP container id; "" on HTTP
}

// Delivery is a command offered to a session.
type Delivery struct {
	Command Command
	Attempt int // 1 for the first; above 1 the adapter shows the repeat (DUP, delivery-count, attempt)
}

// Outcome is what became of a delivery.
type Outcome struct {
	Kind   OutcomeKind
	Reason string // for the trail, from the device where its protocol carries one
}

// OutcomeKind lists the ends a delivery can have.
type OutcomeKind uint8

// The outcomes.
const (
	Accepted    OutcomeKind = iota + 1 // PUBACK, accepted, :accept
	Unconfirmed                        // written, and the protocol gives no receipt (MQTT QoS 0, ack=auto)
	Rejected                           // the device will not take it: REJECTED
	Released                           // not now: back to QUEUED
	LockExpired                        // the HTTP lock ran out: back to QUEUED
)

// Response is a device's answer to a command.
type Response struct {
	Device      ID
	Via         string // the gateway that brought it; "" when the device did
	Command     string // Command.ID
	Status      int    // HTTP-like: 2xx is success
	Payload     []byte
	ContentType string
	Protocol    Protocol
}
