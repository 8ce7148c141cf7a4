package amqp

import (
	"errors"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
)

// conditions is the one place where the words' codes become AMQP's. Busy,
// Unavailable and Internal are the ones to send again after.
var conditions = map[device.Code]wire.Symbol{
	device.Internal:        wire.CondInternalError,
	device.Invalid:         wire.CondInvalidField,
	device.Undecodable:     wire.CondDecodeError,
	device.TooLarge:        wire.CondMessageSizeExceeded,
	device.Unauthenticated: wire.CondUnauthorizedAccess,
	device.Forbidden:       wire.CondUnauthorizedAccess,
	device.NotFound:        wire.CondNotFound,
	device.Conflict:        wire.CondResourceLocked,
	device.Precondition:    wire.CondPreconditionFailed,
	device.Busy:            wire.CondResourceLimitExceeded,
	device.Unavailable:     wire.CondInternalError,
}

// toPeer is err as a peer may read it.
func toPeer(err error) *wire.Error {
	if errors.Is(err, errStolen) {
		return &wire.Error{Condition: wire.CondStolen, Description: err.Error()}
	}
	description := device.PublicMessage(err)
	if device.CodeOf(err).Retryable() {
		description += "; send it again"
	}
	return &wire.Error{Condition: conditions[device.CodeOf(err)], Description: description}
}

// fault is a breach of the protocol by the peer, and what it costs.
type fault struct {
	scope scope
	err   *wire.Error
}

type scope uint8

const (
	ofConn    scope = iota // costs the connection
	ofSession              // costs the session
)

// Error implements error.
func (f *fault) Error() string { return f.err.Error() }

func breach(s scope, condition wire.Symbol, description string) error {
	return &fault{s, &wire.Error{Condition: condition, Description: description}}
}

// expulsion is how a connection is closed for the house's reason (part 2,
// section 2.8.16).
func expulsion(why device.Leaving) error {
	condition, text := wire.CondConnectionForced, "the server is stopping; connect again"
	switch why {
	case device.LeftTakenOver:
		text = "a newer session of the device has taken over"
	case device.LeftDisabled:
		condition, text = wire.CondUnauthorizedAccess, "the device may no longer connect"
	case device.LeftNodeLost:
		text = "this server is cut off from the others; connect again"
	}
	return breach(ofConn, condition, text)
}

// errStolen ends a link whose reply node a newer link has taken.
var errStolen = errors.New("a newer receiver has the address")

// How a connection ends when nobody is at fault.
var (
	errPeerClosed = errors.New("the peer closed the connection")
	errDraining   = errors.New("the server is stopping")
	errPanicked   = errors.New("a fault of ours")
	errHandshake  = errors.New("the handshake failed") // and the peer was told
)
