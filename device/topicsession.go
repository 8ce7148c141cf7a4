package device

import "time"

// Source is one of the streams subscribers of topics are served from.
type Source uint8

// The sources. The numbers are stored: never renumber.
const (
	SourceTopics    Source = 1 // the tenant's own topics
	SourceTelemetry Source = 2
	SourceRetained  Source = 3 // a topic's last retained message, as it was when somebody subscribed
)

// TopicDelivery is a publication for one session.
type TopicDelivery struct {
	*Publication          // shared: not to be changed
	Granted      int      // QoS: the lower of the message's and the subscription's
	Retained     bool     // RETAIN as the session is to see it
	IDs          []uint32 // of the subscriptions it came by
	Ref          Ref      // where it can be read again; zero with Granted 0

	// Settle is set when the session was given the message in the place of its
	// group: it says, once, that the message is the session's for good (Accepted) or
	// is to go to another (Released), and may be called from anywhere. Until then the
	// message is none that the session's state names, but for one with QoS 2 whose
	// identifier is about to be used. Nil for all other messages.
	Settle func(OutcomeKind)
}

// Ref is a publication's place.
type Ref struct {
	Source Source
	Epoch  uint64 // of the source's stream; 0: not known, or not said by the release that wrote it down
	Seq    uint64 // 0: lost with the stream
}

// SessionState is what a door remembers of a session: what was sent and
// received and is not finished. It is kept with the session when that is to
// outlive its connection.
type SessionState struct {
	Outgoing []Outgoing
	Incoming []Incoming
	LastID   uint16
	Mailbox  []Subscription // to commands
}

// Outgoing is a message that was offered, and is not acknowledged to the end.
type Outgoing struct {
	ID       uint16 // packet identifier; 0: not sent yet
	Ref      Ref
	QoS      int
	Retained bool
	Released bool // QoS 2: the receiver has it, only the identifier is left to be freed
	Shared   bool // given in the place of a group
	IDs      []uint32
}

// Taken is a message with QoS 2 that the session was given in the place of its group,
// and has, or had a moment ago, in Outgoing: should the group be offered it again,
// because that was not noted yet when the server died, it is nobody else's.
type Taken struct {
	Filter string // of the subscription, as the client wrote it
	Ref    Ref
}

// Incoming is a QoS 2 message whose identifier its sender has not released.
type Incoming struct {
	ID    uint16
	Mark  string   // Publication.Mark, or Message.Key
	After Position // it stands in its stream after this place, if it does and the stream is the same; zero: not known
}

// Will is the message to publish when a session is lost.
type Will struct {
	Publication
	Delay time.Duration // after the connection, unless the session ends before
}

// Forever as the time a session outlives its connection.
const Forever = time.Duration(1<<63 - 1)

// SessionRecord is a session as it is kept.
type SessionRecord struct {
	Key           SessionKey
	Node          string        // incarnation of the node it is connected to; "" when it is not
	Expiry        time.Duration // how long it outlives its connection; 0: not at all
	Left          time.Time     // when it lost its connection; zero while it has one
	Subscriptions []Subscription
	Topics        Position // up to here everything was offered, and is in Outgoing or finished
	Telemetry     Position
	State         SessionState
	Taken         []Taken
	Will          *Will // to be published at WillAt, or when Node is lost
	WillAt        time.Time
}
