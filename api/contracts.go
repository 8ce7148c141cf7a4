package api

import (
	"context"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// Needs is what the API asks of the house. Everything but Tokens, Barrier, Batches,
// DeadLetters and Bridges is required; without Tokens only the operator may call.
type Needs struct {
	Devices  Devices
	Commands Commands
	Reader   storage.Reader
	Feed     Feed
	Presence Presence
	Tokens   Tokens
	Barrier  Barrier
	Batches  Batches // nil: this server has none

	DeadLetters DeadLetters // nil: there is no such service here
	Bridges     Bridges     // nil: this node runs none
}

// DeadLetters is what was not kept. Errors: NotFound, Invalid, Unavailable.
type DeadLetters interface {
	// Letters answers those that match, oldest first, and what After must be for
	// the next page: zero when there is none.
	Letters(ctx context.Context, q device.DeadLetterQuery) ([]device.DeadLetter, device.Position, error)

	Letter(ctx context.Context, tenant string, at device.Position) (device.DeadLetter, error)

	// Replay reads the message of a letter anew, submits it, and removes the
	// letter once it is acknowledged. Precondition when the letter holds no
	// message; Undecodable, Invalid or TooLarge when it still cannot be kept.
	Replay(ctx context.Context, l device.DeadLetter) error

	// Remove removes a letter for good; one that is gone is no error.
	Remove(ctx context.Context, at device.Position) error
}

// Devices is who may speak. Errors: NotFound, Conflict (an existing name, a
// certificate's key of somebody else), Invalid, Precondition.
type Devices interface {
	// Add, AddCredential and Rotate answer the generated secret, which is shown
	// this once; "" where a certificate's key was given.
	Add(ctx context.Context, n device.NewPrincipal) (device.Registration, string, error)
	AddCredential(ctx context.Context, id device.ID, key device.KeyHash) (device.CredentialInfo, string, error)
	Rotate(ctx context.Context, id device.ID, overlap time.Duration) (device.Registration, string, error)

	// AddMany adds up to 1,000, each for itself, and answers in their order.
	AddMany(ctx context.Context, all []device.NewPrincipal) ([]device.Added, error)

	Get(ctx context.Context, id device.ID) (device.Registration, error)

	// List answers a page of a tenant's devices from a cursor on ("": the
	// beginning), and the cursor of the next ("": none).
	List(ctx context.Context, tenant, cursor string, limit int) (page []device.Registration, next string, err error)

	// Label sets some labels and takes others away, in one step.
	Label(ctx context.Context, id device.ID, set device.Labels, remove []string) (device.Registration, error)

	RemoveCredential(ctx context.Context, id device.ID, credential string) (device.Registration, error)
	Disable(ctx context.Context, id device.ID) (device.Registration, error)
	Enable(ctx context.Context, id device.ID) (device.Registration, error)
	Remove(ctx context.Context, id device.ID) error
}

// Commands sends commands and tells what became of them. Where an id is asked
// for, its Device may be empty: the command's own id is enough. Errors:
// NotFound, Precondition (Cancel after SENT), Conflict (a key used for another
// command), Invalid, TooLarge, Busy, Unavailable.
type Commands interface {
	// Send makes c durable and answers it as QUEUED. It sets the id, and the
	// deadline and response timeout where they are zero.
	Send(ctx context.Context, c device.Command) (device.CommandRecord, error)

	Get(ctx context.Context, id device.ID, command string) (device.CommandRecord, error)
	Cancel(ctx context.Context, id device.ID, command string) (device.CommandRecord, error)

	// Watch calls fn with how the command stands and after every transition,
	// and returns nil after the terminal one. An error of fn ends it and is
	// answered. fn may be slow: it writes to the caller.
	Watch(ctx context.Context, id device.ID, command string, fn func(device.CommandRecord) error) error
}

// Batches is one command to many devices. Errors: NotFound, Conflict (an existing
// id), Precondition (nothing more would be sent; no device is meant), Invalid,
// TooLarge, Busy, Unavailable.
type Batches interface {
	// Create makes a batch of the devices listed, or that its selector finds.
	Create(ctx context.Context, b device.Batch, listed []string) (device.Batch, error)

	Get(ctx context.Context, tenant, id string) (device.Batch, error)
	Pause(ctx context.Context, tenant, id string) (device.Batch, error)
	Resume(ctx context.Context, tenant, id string) (device.Batch, error)
	Cancel(ctx context.Context, tenant, id, reason string) (device.Batch, error)

	// List answers at most limit of a tenant's batches after an id, newest first.
	List(ctx context.Context, tenant, after string, limit int) ([]device.Batch, error)

	// Watch calls fn with how the batch stands and after every change, and returns
	// nil once it has ended. An error of fn ends it and is answered.
	Watch(ctx context.Context, tenant, id string, fn func(device.Batch) error) error

	// Results is Watch for what became of each device's command, once each.
	Results(ctx context.Context, tenant, id string, fn func(device.BatchResult) error) error
}

// Feed is telemetry in the order it was stored.
type Feed interface {
	// Follow calls fn with a tenant's messages (of one device, or of all for
	// "") in stream order: those after a position, or from now on for nil,
	// until ctx ends or fn answers an error, which is answered. fn may be slow.
	// What is no longer kept is passed over.
	Follow(ctx context.Context, tenant, devicename string, after *device.Position, fn func(device.Stored) error) error
}

// Presence is who is connected.
type Presence interface {
	// Sessions answers at most limit open sessions of a tenant (and device, when
	// it is not "") in the order they were entered, after the cursor of an
	// earlier answer, and the cursor of what follows ("" for nothing).
	Sessions(ctx context.Context, tenant, devicename, cursor string, limit int) ([]device.PresenceEvent, string, error)

	// Follow is Feed.Follow for the beginnings and ends of sessions. When not all
	// that comes after the position is kept, the error is an OutOfStream.
	Follow(ctx context.Context, tenant, devicename string, after *device.Position, fn func(device.StoredPresence) error) error
}

// Tokens is who may call, besides the operator. Errors: NotFound, Conflict (an
// existing name), Invalid, Precondition, Unavailable.
type Tokens interface {
	// Verify answers whose text this is, and a context that ends when the token
	// is removed or expires. Unauthenticated for any text that is nobody's.
	Verify(ctx context.Context, text string) (device.Token, context.Context, error)

	// Create answers the text, which is shown this once. ttl is how long it
	// lives; 0 is for ever.
	Create(ctx context.Context, t device.Token, ttl time.Duration) (device.Token, string, error)

	// List answers a tenant's tokens after a name, in byte order of names.
	List(ctx context.Context, tenant, after string, limit int) ([]device.Token, error)

	Remove(ctx context.Context, tenant, name string) error
}

// OutOfStream is the error of Presence asked for what was purged: everything
// before FirstKept.
type OutOfStream interface {
	error
	FirstKept() device.Position
}

// Barrier waits until the store holds everything the stream held when it was
// called, or ctx ends, so that who was told "stored" also reads it back.
type Barrier func(ctx context.Context) error
