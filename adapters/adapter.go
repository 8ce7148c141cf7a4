package adapters

import (
	"context"
	"net"

	"github.com/tributary-iot/tributary/device"
)

// Adapter is one protocol's door. It is made by its package's Open, which
// validates the configuration and binds the listeners, so that a port clash is
// an error there and Addrs is known before Serve.
type Adapter interface {
	// Addrs names each bound listener as it appears in addresses.json:
	// "mqtt", "amqp", "http".
	Addrs() map[string]net.Addr

	// Serve accepts connections until Shutdown or Close; it answers nil then.
	Serve() error

	// Shutdown drains: stop accepting, read no more, finish and acknowledge
	// what was accepted, detach sessions, say goodbye in the protocol's words,
	// close. When ctx ends first the rest is cut. It works before Serve and twice.
	Shutdown(ctx context.Context) error
}

// Gate is the door to the house, the only one an adapter has. All methods are
// safe for use from any goroutine.
type Gate interface {
	// Authenticate answers who the credential proves, or an error of code
	// Unauthenticated (told to the peer) or Unavailable (try later).
	Authenticate(ctx context.Context, c device.Credential) (device.Principal, error)

	// Connect enters the session of a peer that was let in as p, and answers how to
	// leave; the adapter calls leave exactly once, when the session is over. A
	// session without a device's name (open mode, short forms not yet used) is
	// not entered, and leave does nothing. The session is ended when p is disabled
	// or removed, or the credential it came in with is, also when that was between
	// Authenticate and Connect. end is called at most once, from
	// another goroutine, and must not block: the adapter ends the session in its
	// protocol's words for the reason given, and leaves. After leave it is not
	// called. The error is of code Unavailable: this node takes no sessions now.
	Connect(p device.Principal, s device.Session, end func(device.Leaving)) (leave func(device.Leaving), err error)

	// Submit queues m for the stream and returns at once, unless the queue is
	// full: then it blocks (back-pressure), for at most a few seconds, and
	// answers an error of code Busy. An error from Submit means done will not
	// be called. Otherwise done is called exactly once, from another goroutine,
	// and must not block: done(nil) means stored as durably as configured,
	// done(err) that it was not, with Invalid or TooLarge (never will be) or
	// Unavailable (unknown: the device should send it again).
	//
	// Messages submitted one after another by one goroutine are stored in that
	// order. m and all it holds belong to the house from here on; the payload
	// must not share memory with a buffer that will be reused.
	Submit(m *device.Message, done func(error)) error

	// Attach takes the device's lease for a session and connects it to the
	// device's mailbox. Nothing is offered before the first Request. offer is
	// called from another goroutine, in the order of sending, never more often
	// than requested, and must not block; the command is SENT, durably, when it
	// is called. lost is called at most once, when a newer session has taken
	// the lease: deliveries not settled are no longer this session's, and the
	// adapter stops showing them; if the newer session leaves first, the lease comes
	// back by itself and offers resume without a call.
	Attach(ctx context.Context, s device.Session, offer func(device.Delivery), lost func()) (Attachment, error)

	// Respond records a device's answer to a command, whichever session brings
	// it. done(nil) when it is durable; NotFound for an unknown command,
	// Precondition when the command has already ended.
	Respond(r device.Response, done func(error))

	// Refused leaves a bounded trail of a message that was not kept.
	Refused(r Refusal)
}

// Attachment is a session's hold on its device's mailbox.
type Attachment interface {
	// Request asks for n more deliveries (n > 0). Requests add up.
	Request(n int)

	// Settle ends the delivery of command id made as the given attempt.
	// done(nil) when the outcome is durable; Conflict when this session no
	// longer holds that delivery (lock expired, newer session), NotFound when
	// it never did. done may be nil and must not block.
	Settle(id string, attempt int, o device.Outcome, done func(error))

	// Detach gives up the lease; unsettled deliveries go back to the queue.
	// It is idempotent, returns when the return to the queue is under way, and
	// after it neither offer nor lost is called.
	Detach(reason string)
}

// Refusal describes a message an authenticated peer sent that we did not keep.
type Refusal struct {
	Device      device.ID
	Protocol    device.Protocol
	Address     string // topic, target address or path, as sent
	Raw         []byte // what came, cut by the receiver to a bound
	ContentType string
	Err         error // why: its code and message are kept

	// Message is what was made of it when only its payload could not be read
	// (Raw, which it need not hold): with it the letter can be replayed once the
	// payload can be. Nil for every other reason.
	Message *device.Message
}
