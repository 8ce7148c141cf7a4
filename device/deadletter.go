package device

import (
	"strings"
	"time"
)

// DeadLetter is a message that was not kept, and why: one that an authenticated
// device sent and a door refused, or one that was in a stream and that no store
// could take. How many are kept is bounded in bytes; the oldest go first.
type DeadLetter struct {
	Position    Position // its place among the dead letters
	BuriedAt    time.Time
	Device      ID
	Code        Code   // of the reason
	Reason      string // in words
	Protocol    Protocol
	Address     string // topic, target address or path as sent; of a stream its subject
	ContentType string // as declared
	Stream      string // "" when a door refused it
	At          Position
	Length      int    // of the raw bytes as they came; Raw may be the beginning of them
	Raw         []byte // what came: the payload, or the stream's message

	// Message is what a replay starts from: all that was known of the message
	// but its measurements. Nil when it was not known whose telemetry it was, is
	// not telemetry, or when Raw is cut.
	Message *Message
}

// ReplayKey is the key a replayed message carries when its device gave none:
// the same each time, so that a store keeps one of however many replays.
func (l *DeadLetter) ReplayKey(position func(Position) string) string {
	if l.Stream != "" {
		return "dead-letter/" + strings.ToLower(l.Stream) + "/" + position(l.At)
	}
	return "dead-letter/" + position(l.Position)
}

// DeadLetterQuery asks for dead letters, oldest first.
type DeadLetterQuery struct {
	Tenant, Device string    // Device "": all of the tenant's
	Codes          []Code    // of these reasons; empty: of any
	Since, Until   time.Time // buried in [Since, Until); zero: unbounded
	After          Position  // those after it; zero: from the first
	Limit          int       // at most; a page may hold fewer and not be the last
}
