package device

import "time"

// Leaving says why a session ended. The words are stored and shown.
type Leaving string

// The ways a session ends.
const (
	LeftClosed    Leaving = "closed"          // the device said goodbye
	LeftLost      Leaving = "connection-lost" // the connection broke without a word
	LeftKeepAlive Leaving = "keep-alive"      // nothing was heard for too long
	LeftFaulty    Leaving = "protocol-error"  // closed by us: the peer broke the protocol, or a message was refused that way
	LeftTakenOver Leaving = "taken-over"      // a newer session of the device took its place
	LeftDisabled  Leaving = "disabled"        // the device may no longer speak
	LeftDrain     Leaving = "drain"           // the node is stopping
	LeftNodeLost  Leaving = "node-lost"       // the node died, or lost its place among the others
)

// PresenceEvent is a session's beginning or end.
type PresenceEvent struct {
	Session
	ID        string // of the session: a ULID, the same in both its events
	Node      string // where the session is or was
	Connected bool
	Reason    Leaving   // of an end
	Since     time.Time // when the session began
	At        time.Time // of the event, by the clock of the node that wrote it
}

// StoredPresence is a presence event at its place in the stream.
type StoredPresence struct {
	PresenceEvent
	Position Position
}
