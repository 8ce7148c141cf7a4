package adapters

import (
	"context"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// Applications is what a Gate may offer besides, to the programs of a tenant: a
// door at which they stand asks its gate for it by a type assertion. Whose tenant
// it is comes from Principal.Oversees, never from what the program says.
type Applications interface {
	// Subscribe begins to read a tenant's telemetry. Nothing is offered before the
	// first Request; offer is called from another goroutine, one message at a time,
	// never more often than requested, and must not block. lost is called at most
	// once, when reading ended and not by Close: with Unavailable (subscribe again).
	//
	// Errors: Invalid (a position of another stream's life, a bad name), Conflict (a
	// subscription of that name reads something else), Precondition (the stream no
	// longer reaches back to where one with a name is to begin), Busy (too many
	// subscriptions),
	// Unavailable.
	Subscribe(ctx context.Context, s Subscription, offer func(Telemetry), lost func(error)) (Feed, error)

	// SendCommand makes c durable and answers it as QUEUED; it sets the id, and the
	// deadline and response timeout where they are zero. Errors: Invalid, TooLarge,
	// Conflict (a key used for another command), NotFound, Busy, Unavailable.
	SendCommand(ctx context.Context, c device.Command) (device.CommandRecord, error)

	// WatchCommand calls fn with how a command stands and after every transition,
	// and returns nil after the terminal one.
	WatchCommand(ctx context.Context, id device.ID, command string, fn func(device.CommandRecord) error) error
}

// Subscription says what of a tenant's telemetry to read, from where.
type Subscription struct {
	Tenant  string
	Device  string // "": all of the tenant's
	Channel string // "": all channels
	Below   bool   // the channels below Channel, too

	// Where to begin: After a position token, with the first the stream keeps, or
	// with what was stored at Since or later. All zero: with what is to come. Without
	// a name, what the stream does not keep comes from the store.
	After string
	First bool
	Since time.Time

	// Name makes it one that outlives its readers, of which several, on any node,
	// share the messages; the position is kept, and where to begin counts only the
	// first time. Without a reader for Keep it is forgotten. "": the reader's own,
	// which ends with it.
	Name string
	Keep time.Duration
}

// Feed is one reader of a subscription.
type Feed interface {
	// Request asks for n more messages (n > 0). Requests add up.
	Request(n int)

	// Recall takes back what was requested and is not met yet; what is under way
	// may still be offered.
	Recall()

	// Detach ends the reading. What was offered and not settled goes to another
	// reader of the subscription, or to the next. It is idempotent, and after it
	// neither offer nor lost is called.
	Detach(reason string)
}

// Telemetry is a message offered to a reader.
type Telemetry struct {
	device.Stored
	Token   string // of Position: to begin after it another time
	Attempt int    // 1 for the first

	// Gap is set when messages a named subscription was owed may have left the stream
	// unread, because it was too far behind: those after Gap.After and before
	// Gap.Before. The store has them.
	Gap *Gap

	// Settle ends the delivery: Accepted and Unconfirmed move the position on,
	// Rejected as well, Released has it offered again. It must be called at most
	// once and does not block.
	Settle func(device.OutcomeKind)
}

// Gap is what a reader missed, as position tokens.
type Gap struct{ After, Before string }
