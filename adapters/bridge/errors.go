package bridge

import (
	"errors"
	"fmt"

	"github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/device"
)

// conditions is the one place where the words' codes become what a broker is told
// of a message it shall not deliver again. Busy, Unavailable and Internal are not
// here: such a message is released.
var conditions = map[device.Code]amqp.ErrCond{
	device.Invalid:         amqp.ErrCondInvalidField,
	device.Undecodable:     amqp.ErrCondDecodeError,
	device.TooLarge:        amqp.ErrCondMessageSizeExceeded,
	device.Unauthenticated: amqp.ErrCondUnauthorizedAccess,
	device.Forbidden:       amqp.ErrCondUnauthorizedAccess,
	device.NotFound:        amqp.ErrCondNotFound,
	device.Conflict:        amqp.ErrCondResourceLocked,
	device.Precondition:    amqp.ErrCondPreconditionFailed,
}

// toBroker is err as a broker may read it.
func toBroker(err error) *amqp.Error {
	return &amqp.Error{Condition: conditions[device.CodeOf(err)], Description: device.PublicMessage(err)}
}

// Why a connection ends when nothing is broken.
var (
	errStopping = errors.New("the server is stopping")
	errClosed   = errors.New("the broker closed the connection")
)

// errEnded is the house ending the session of a link.
type errEnded struct{ why device.Leaving }

func (e errEnded) Error() string {
	if e.why == device.LeftDisabled {
		return "the bridge's gateway is disabled"
	}
	return fmt.Sprintf("the house ended the session: %s", e.why)
}

// outcomeOf reads what a broker did with a command. Its accepted is no receipt of
// the device.
func outcomeOf(s amqp.DeliveryState) device.Outcome {
	switch s := s.(type) {
	case *amqp.StateAccepted:
		return device.Outcome{Kind: device.Unconfirmed, Reason: "accepted by the broker"}
	case *amqp.StateRejected:
		o := device.Outcome{Kind: device.Rejected, Reason: "rejected by the broker"}
		if s.Error != nil {
			o.Reason += fmt.Sprintf(": %s: %.300s", s.Error.Condition, s.Error.Description)
		}
		return o
	case *amqp.StateModified:
		if s.UndeliverableHere {
			return device.Outcome{Kind: device.Rejected, Reason: "undeliverable, says the broker"}
		}
	}
	return device.Outcome{Kind: device.Released, Reason: "released by the broker"}
}
