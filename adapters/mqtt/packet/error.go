package packet

import "fmt"

// Error is a violation of the texts by the peer. The connection cannot go on.
type Error struct {
	Reason Reason // for CONNACK or DISCONNECT on MQTT 5
	Text   string // what is wrong and what would be right
	Level  byte   // the protocol level asked for, when a CONNECT had said it; else 0
}

// Error gives the sentence.
func (e *Error) Error() string { return e.Text }

func malformed(format string, args ...any) *Error {
	return &Error{Reason: MalformedPacket, Text: fmt.Sprintf(format, args...)}
}

func violation(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Text: fmt.Sprintf(format, args...)}
}
