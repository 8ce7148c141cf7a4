package device

import (
	"errors"
	"fmt"
)

// Code is why a request was refused. Each door maps the codes to its
// protocol's own words in exactly one file (errors.go of the adapter, and of
// the API).
type Code uint8

// The codes. An error without one is Internal: logged in full, shown to the
// peer as "internal error" and nothing else.
const (
	Internal        Code = iota // ours; the peer may try again
	Invalid                     // malformed or out of bounds: the same bytes will never be taken
	Undecodable                 // the declared content type does not parse
	TooLarge                    // over a configured size
	Unauthenticated             // unknown device, wrong secret, disabled: one answer for all
	Forbidden                   // authenticated, but may not do this
	NotFound                    // no such thing
	Conflict                    // someone else acted first: stale lock, stale session, existing name
	Precondition                // not in this state: cancel after SENT, answer after the end
	Busy                        // full for now: back off and try again
	Unavailable                 // the pipeline or store is down, or we are stopping
)

var codeNames = [...]string{
	"internal", "invalid", "undecodable", "too-large", "unauthenticated", "forbidden",
	"not-found", "conflict", "precondition", "busy", "unavailable",
}

// String is the code as it appears in metrics labels and dead letters.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "internal"
}

// ParseCode is the reverse of String; ok is false for any other text.
func ParseCode(s string) (c Code, ok bool) {
	for i, name := range codeNames {
		if name == s {
			return Code(i), true
		}
	}
	return Internal, false
}

// Retryable reports whether the very same request may succeed later.
func (c Code) Retryable() bool { return c == Internal || c == Busy || c == Unavailable }

// Error is a refusal with a code and a sentence fit for the peer to read.
type Error struct {
	Code    Code
	Message string // for the peer: says what is wrong and what would be right; holds no secret
	Err     error  // the cause, for our log only; may be nil
}

// Error gives the sentence, and the cause when there is one.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes a coded error; %w keeps the cause out of the peer's sight only
// if it is not also printed, so wrap causes with Wrap instead.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap makes a coded error whose cause stays in our log.
func Wrap(code Code, message string, cause error) *Error {
	return &Error{Code: code, Message: message, Err: cause}
}

// CodeOf finds the code of err: Internal when it carries none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}

// PublicMessage is what a peer may be told of err: the message of a coded
// error, "internal error" for any other.
func PublicMessage(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Message
	}
	return "internal error"
}
