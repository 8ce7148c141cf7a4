package wire

import "unicode/utf8"

// Error is an error as peers tell it (part 2, section 8.14).
type Error struct {
	Condition   Symbol
	Description string
}

// Error gives the condition and the description.
func (e *Error) Error() string {
	if e.Description == "" {
		return string(e.Condition)
	}
	return string(e.Condition) + ": " + e.Description
}

// Error conditions (part 2, sections 8.15 to 8.18).
const (
	CondInternalError         Symbol = "amqp:internal-error"
	CondNotFound              Symbol = "amqp:not-found"
	CondUnauthorizedAccess    Symbol = "amqp:unauthorized-access"
	CondDecodeError           Symbol = "amqp:decode-error"
	CondResourceLimitExceeded Symbol = "amqp:resource-limit-exceeded"
	CondNotAllowed            Symbol = "amqp:not-allowed"
	CondInvalidField          Symbol = "amqp:invalid-field"
	CondNotImplemented        Symbol = "amqp:not-implemented"
	CondPreconditionFailed    Symbol = "amqp:precondition-failed"
	CondResourceLocked        Symbol = "amqp:resource-locked"
	CondIllegalState          Symbol = "amqp:illegal-state"
	CondFrameSizeTooSmall     Symbol = "amqp:frame-size-too-small"
	CondConnectionForced      Symbol = "amqp:connection:forced"
	CondFramingError          Symbol = "amqp:connection:framing-error"
	CondErrantLink            Symbol = "amqp:session:errant-link"
	CondHandleInUse           Symbol = "amqp:session:handle-in-use"
	CondUnattachedHandle      Symbol = "amqp:session:unattached-handle"
	CondDetachForced          Symbol = "amqp:link:detach-forced"
	CondStolen                Symbol = "amqp:link:stolen"
	CondTransferLimitExceeded Symbol = "amqp:link:transfer-limit-exceeded"
	CondMessageSizeExceeded   Symbol = "amqp:link:message-size-exceeded"
)

func readError(r *reader) *Error {
	if d := r.descriptor(); d != descError {
		r.fail(malformed("an error is expected, not the descriptor 0x%x", d))
		return nil
	}
	f, e := r.fields(), new(Error)
	e.Condition = required(&f, "condition", (*reader).symbol)
	e.Description = field(&f, (*reader).string, "")
	f.skip() // info
	f.end(r)
	return e
}

// maxDescription bounds a description that is written, so that a frame that
// holds one fits into what every peer takes.
const maxDescription = MinMaxFrameSize - 160

func appendError(dst []byte, e *Error) []byte {
	l := beginList(dst, descError)
	put(&l, true, appendSymbol, e.Condition)
	put(&l, e.Description != "", appendString, shorten(e.Description))
	return l.end()
}

// shorten cuts a text between two of its characters.
func shorten(s string) string {
	if len(s) <= maxDescription {
		return s
	}
	end := maxDescription
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
