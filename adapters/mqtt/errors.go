package mqtt

import (
	"errors"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

// reasons says what each code of a refusal is called on the wire. PUBACK and
// SUBACK may carry few codes (3.4.2.1, 3.9.3), so some share one: the Reason
// String tells them apart.
var reasons = [...]struct{ puback, disconnect, suback packet.Reason }{
	device.Internal:        {packet.UnspecifiedError, packet.UnspecifiedError, packet.UnspecifiedError},
	device.Invalid:         {packet.ImplementationSpecific, packet.ImplementationSpecific, packet.TopicFilterInvalid},
	device.Undecodable:     {packet.PayloadFormatInvalid, packet.PayloadFormatInvalid, packet.UnspecifiedError},
	device.TooLarge:        {packet.QuotaExceeded, packet.PacketTooLarge, packet.QuotaExceeded},
	device.Unauthenticated: {packet.NotAuthorized, packet.NotAuthorized, packet.NotAuthorized},
	device.Forbidden:       {packet.NotAuthorized, packet.NotAuthorized, packet.NotAuthorized},
	device.NotFound:        {packet.ImplementationSpecific, packet.ImplementationSpecific, packet.TopicFilterInvalid},
	device.Conflict:        {packet.ImplementationSpecific, packet.ImplementationSpecific, packet.UnspecifiedError},
	device.Precondition:    {packet.ImplementationSpecific, packet.ImplementationSpecific, packet.UnspecifiedError},
	device.Busy:            {packet.QuotaExceeded, packet.ServerBusy, packet.QuotaExceeded},
	device.Unavailable:     {packet.UnspecifiedError, packet.ServerBusy, packet.UnspecifiedError},
}

// topicError is a refusal because of the topic, which has a reason code of its own.
type topicError struct{ err error }

func (e *topicError) Error() string { return e.err.Error() }
func (e *topicError) Unwrap() error { return e.err }

// pubackReason is the code of a PUBACK that refuses.
func pubackReason(err error) packet.Reason {
	if e := (*topicError)(nil); errors.As(err, &e) && device.CodeOf(err) == device.Invalid {
		return packet.TopicNameInvalid
	}
	return reasons[device.CodeOf(err)].puback
}

// subackReason is the code of a SUBACK that refuses.
func subackReason(err error, v packet.Version) packet.Reason {
	if v < packet.V5 {
		return packet.V311SubscribeFailure
	}
	return reasons[device.CodeOf(err)].suback
}

// closing is why we end a connection, in words for the peer.
type closing struct {
	reason packet.Reason
	text   string
	err    error // the cause, for our log; may be nil
}

func (c *closing) Error() string {
	if c.err != nil {
		return c.text + ": " + c.err.Error()
	}
	return c.text
}

func (c *closing) Unwrap() error { return c.err }

func closeWith(reason packet.Reason, text string) *closing {
	return &closing{reason: reason, text: text}
}

// closeFor ends a connection because a message is refused and no PUBACK can
// say so, or because its outcome is not known.
func closeFor(err error) *closing {
	c := &closing{reason: reasons[device.CodeOf(err)].disconnect, text: device.PublicMessage(err), err: err}
	if e := (*topicError)(nil); errors.As(err, &e) && device.CodeOf(err) == device.Invalid {
		c.reason = packet.TopicNameInvalid
	}
	return c
}

// expelled is how a session is ended for the house's reason.
func expelled(why device.Leaving) *closing {
	switch why {
	case device.LeftTakenOver:
		return closeWith(packet.SessionTakenOver, "a newer session of the device has taken over")
	case device.LeftDisabled:
		return closeWith(packet.NotAuthorized, "the device may no longer connect")
	case device.LeftNodeLost:
		return closeWith(packet.UseAnotherServer, "this server is cut off from the others: connect again")
	}
	return closeWith(packet.ServerShuttingDown, "the server is shutting down")
}

// leaving is why a session was over, from the error that ended it.
func leaving(err error) device.Leaving {
	if errors.Is(err, errGone) {
		return device.LeftClosed
	}
	reason, _, told := farewell(err)
	switch {
	case !told:
		return device.LeftLost
	case reason == packet.KeepAliveTimeout:
		return device.LeftKeepAlive
	case reason == packet.SessionTakenOver:
		return device.LeftTakenOver
	case reason == packet.ServerShuttingDown:
		return device.LeftDrain
	case reason == packet.UseAnotherServer:
		return device.LeftNodeLost
	}
	return device.LeftFaulty
}

// farewell is what a DISCONNECT says when the connection ends for err. send is
// false when there is nobody to say it to.
func farewell(err error) (reason packet.Reason, text string, send bool) {
	if e := (*closing)(nil); errors.As(err, &e) {
		return e.reason, e.text, true
	}
	if e := (*packet.Error)(nil); errors.As(err, &e) {
		return e.Reason, e.Text, true
	}
	return 0, "", false
}

// refusal is a CONNECT turned away, in the words of both versions.
type refusal struct {
	reason packet.Reason
	v311   packet.Reason
	text   string
	where  packet.Properties // of a CONNACK: where else to go
	result string            // of the connects metric
	err    error
}

func (r *refusal) Error() string {
	if r.err != nil {
		return r.text + ": " + r.err.Error()
	}
	return r.text
}

func (r *refusal) Unwrap() error { return r.err }

// refuseConnect turns a failed authentication into a refusal.
func refuseConnect(err error, anonymous bool) *refusal {
	r := &refusal{text: device.PublicMessage(err), result: "unauthenticated", err: err}
	switch code := device.CodeOf(err); {
	case code == device.Busy:
		r.reason, r.v311, r.result = packet.ServerBusy, packet.V311ServerUnavailable, "unavailable"
	case code.Retryable():
		r.reason, r.v311, r.result = packet.ServerUnavailable, packet.V311ServerUnavailable, "unavailable"
	case code == device.Forbidden || anonymous:
		r.reason, r.v311 = packet.NotAuthorized, packet.V311NotAuthorized
	default:
		r.reason, r.v311 = packet.BadUserNameOrPassword, packet.V311BadUserOrPassword
	}
	return r
}
