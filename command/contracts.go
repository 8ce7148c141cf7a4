package command

import (
	"context"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// AnyPlace as Mailbox.Put's expect means: after whatever is there.
const AnyPlace = ^uint64(0)

// Mailbox holds the requests: the COMMANDS stream. A request is told as the
// event that created it: QUEUED, with Request set and its place in the stream.
// It speaks in device words only, so that who keeps it need not know this room.
type Mailbox interface {
	// Put stores c durably and answers its sequence. With expect other than
	// AnyPlace, it answers an error of code Conflict unless the device's newest
	// request in the stream has that sequence (0: there is none). Any error of
	// another code but Invalid and TooLarge leaves it open whether c is stored.
	Put(ctx context.Context, c *device.Command, expect uint64) (uint64, error)

	// Requests reads the device's requests that were not removed, oldest first.
	// It sees everything stored before it was called: never a stale replica.
	Requests(ctx context.Context, id device.ID) ([]device.StoredEvent, error)

	// Remove takes requests away: all before a sequence, and those listed. What
	// is gone already is no error.
	Remove(ctx context.Context, before uint64, seqs []uint64) error

	// Follow calls fn with every request after a sequence, in order, from one
	// goroutine, until ctx ends or it fails.
	Follow(ctx context.Context, after uint64, fn func(device.StoredEvent)) error

	// Last is the sequence of the newest request not removed; 0 when empty.
	Last(ctx context.Context) (uint64, error)
}

// Log holds the transitions: the COMMAND_EVENTS stream.
type Log interface {
	// Append adds e as its device's newest event, durably, and answers its
	// sequence. It answers an error of code Conflict when the device's newest
	// event is not expect (0: there is none). Any other error leaves it open
	// whether e is stored.
	Append(ctx context.Context, e *device.CommandEvent, expect uint64) (uint64, error)

	// Newest answers the device's newest event, as Mailbox.Requests does; one of
	// sequence 0 when there is none.
	Newest(ctx context.Context, id device.ID) (device.StoredEvent, error)

	// Events reads the device's events from a sequence on, oldest first, likewise.
	Events(ctx context.Context, id device.ID, from uint64) ([]device.StoredEvent, error)

	// Purge removes every event up to and including a sequence.
	Purge(ctx context.Context, through uint64) error

	// Follow is Mailbox.Follow for events.
	Follow(ctx context.Context, after uint64, fn func(device.StoredEvent)) error

	// Last is Mailbox.Last for events.
	Last(ctx context.Context) (uint64, error)
}

// Leases says which session is a device's newest.
type Leases interface {
	// Take makes s, which lives on node, the device's newest session. Its epoch
	// is above that of every session before it, restarts included. A gateway's
	// session takes nothing from the device itself: Conflict, while that holds the
	// lease on another node that lives.
	Take(ctx context.Context, s device.Session, node string) (device.Epoch, error)

	// Release gives a lease back; it does nothing when a newer one was taken.
	Release(ctx context.Context, id device.ID, e device.Epoch) error
}

// History answers what is no longer in the streams: the store. A command is
// removed from the mailbox only after the store holds it to its end.
type History interface {
	// Command is storage.Reader.Command: NotFound when the store has none.
	Command(ctx context.Context, tenant, devicename, id string) (device.CommandRecord, error)
	// Commands is storage.Reader.Commands.
	Commands(ctx context.Context, q storage.CommandQuery) (storage.CommandPage, error)
}
