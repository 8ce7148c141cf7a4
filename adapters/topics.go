package adapters

import (
	"context"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// Topics is what the house does for peers that publish and subscribe: the
// tenant's own topics, the telemetry of all its devices, and commands sent by
// applications. Who may use which topic is device.Principal's rule, and the
// adapter's to apply. All methods are safe for use from any goroutine.
type Topics interface {
	// Publish hands p to every session that is subscribed to its topic, on any
	// node. One that says Retain is given to Retain before, and carries what that
	// answered as Kept. done is as in Gate.Submit: with QoS 1 and 2, done(nil) means
	// as durable as configured; with QoS 0 that it is on its way. An error means that
	// done is not called.
	Publish(p *device.Publication, done func(error)) error

	// Published reports whether a topic, of telemetry too, has a message of that
	// Mark (of telemetry: that key) after a place: one whose publisher does not know
	// what became of it. A place in another life of the stream, or none, is before
	// everything there is.
	Published(ctx context.Context, src device.Source, tenant, topic, mark string, after device.Position) (bool, error)

	// Retain makes p the topic's retained message, or takes that away if it has no
	// payload, and publishes nothing. done is as in Publish, and is told what p, or
	// the telemetry it is of, is to carry as Kept when it is published after that: who
	// subscribes meanwhile gets it one way or the other, and not twice.
	Retain(p *device.Publication, done func(kept uint64, err error)) error

	// Join enters a session. While it is in, a newer one of the same key ends it.
	Join(ctx context.Context, j Joining) (Member, Joined, error)

	// Forget forgets an earlier session of the key, which costs little when there
	// is none: a session that is not to outlive its connection, and has no will,
	// need not join before it subscribes.
	Forget(ctx context.Context, key device.SessionKey) error

	// Send makes a durable command, as device.Command describes it, for an
	// application; of two with one Key the second is the first.
	Send(ctx context.Context, c device.Command) (device.CommandRecord, error)
}

// Joining is a session that wants to come in, and what the house may call of it.
type Joining struct {
	Key   device.SessionKey
	Clean bool // an earlier session of the key is forgotten

	// Expiry is how long the session outlives its connection; 0: not at all, and
	// device.Forever.
	Expiry time.Duration

	// Will is published when the session is left for a reason other than its
	// peer's goodbye. It is durable before Join answers. Nil for none.
	Will *device.Will

	// Offer is called from other goroutines, one at a time, with a message for the
	// session, and must not block. Those with QoS 1 and 2 come in order, and never
	// more than were requested; one with QoS 0 may be dropped for want of room.
	Offer func(device.TopicDelivery)

	// Room blocks until the peer has taken what was offered so far, enough for more
	// of QoS 0. It is called before retained messages are offered.
	Room func(ctx context.Context) error

	// State is called when the session is written down: what was offered and is not
	// finished, without what another session of a group may get instead
	// (TopicDelivery.Settle). Offer is not called meanwhile. It must not call the house.
	State func() device.SessionState

	// End is called at most once, and must not block: the session is taken over, or
	// its record was lost to another node. The adapter ends it and leaves.
	End func(device.Leaving)
}

// Joined is what was known of the session that came in.
type Joined struct {
	Present       bool // an earlier session goes on: what follows is of it
	State         device.SessionState
	Subscriptions []device.Subscription // in place already
}

// Member is a session that is in. Its methods must not be called from within
// Offer or State, but for Save and Request.
type Member interface {
	// Subscribe adds or replaces a subscription. Messages stored from then on are
	// offered; of a shared one, those that no session of its group was given. The
	// answer's replay offers the messages that were retained then, if the subscription's
	// policy asks for them, but for those that newer ones have replaced meanwhile; the
	// adapter calls it, from any goroutine, once the peer was told of the subscription.
	Subscribe(ctx context.Context, s device.Subscription) (replay func(), err error)

	// Unsubscribe takes a subscription away, and answers whether it was there.
	Unsubscribe(filter string) bool

	// Request asks for n more deliveries with QoS 1 or 2. Nothing of them is
	// offered before the first call.
	Request(n int)

	// Save writes the session down, as State answers it from now on, if it is to
	// outlive its connection; done(nil) when it is durable, at once when it is not
	// to. done must not block, and may be nil: then it is not urgent.
	Save(done func(error))

	// Mark answers what tells a message that is about to be published from every
	// other, and a place in its source after which it will stand: see
	// Topics.Published.
	Mark(src device.Source) (mark string, after device.Position)

	// Read answers a message of Ref again; NotFound when it is not kept any more.
	Read(ctx context.Context, ref device.Ref) (*device.Publication, error)

	// Leave ends the session's stay. It goes on without a connection for expiry,
	// with what State answers once more; what it was given of a group and has not
	// settled goes to another session. The will is published (later, if it says
	// so) unless forget says that the peer said goodbye. It is idempotent; after it
	// none of the session's functions is called.
	Leave(expiry time.Duration, forgetWill bool)
}
