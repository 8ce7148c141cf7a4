package batch

import (
	"context"

	"github.com/tributary-iot/tributary/device"
)

// Commands is the command room, as a batch needs it.
type Commands interface {
	// Send is command.Service.Send: with a key it sends once.
	Send(ctx context.Context, c device.Command) (device.CommandRecord, error)
	// SendNew is Send for a caller who knows that no command with the key has ended:
	// it asks less.
	SendNew(ctx context.Context, c device.Command) (device.CommandRecord, error)
	// ByKey answers the device's command with a key; NotFound when there is none.
	ByKey(ctx context.Context, id device.ID, key string) (device.CommandRecord, error)
	Get(ctx context.Context, id device.ID, command string) (device.CommandRecord, error)
	Cancel(ctx context.Context, id device.ID, command string) (device.CommandRecord, error)
	// Heed calls fn with every transition of any command from now on, in order,
	// until stop is called. fn must not block, nor call the room.
	Heed(fn func(device.StoredEvent)) (stop func())
}

// Devices is the registry.
type Devices interface {
	List(ctx context.Context, tenant, cursor string, limit int) (page []device.Registration, next string, err error)
}

// Record is the part number that means a record.
const Record = -1

// Store keeps records and, under names of their own, parts: bytes it does not look
// into, each with a revision. It uses built-in types only. Errors: NotFound or
// Conflict where said; anything else is an outage, after which the same call may be
// made again.
type Store interface {
	// Put replaces a value whose revision is still the given one, 0 for one that
	// is not there; Conflict when it is not.
	Put(ctx context.Context, tenant, name string, part int, value []byte, revision uint64) (uint64, error)
	// Get answers a value, which may be behind the last Put of another node.
	Get(ctx context.Context, tenant, name string, part int) (value []byte, revision uint64, err error)
	// Remove takes a value away; one that is gone is no error.
	Remove(ctx context.Context, tenant, name string, part int) error
	// Watch calls changed for every record there is, then ready, and then for every
	// change, with nil for one that was removed, in order and from one goroutine.
	// It ends with ctx (and answers nil), or when it may have missed one.
	Watch(ctx context.Context, ready func(), changed func(tenant, id string, value []byte, revision uint64)) error
	// Follow calls changed for one record and all parts of a name, and then for every
	// change, in the order of writing, until it answers an error, which is answered.
	Follow(ctx context.Context, tenant, id, parts string, changed func(part int, value []byte) error) error
}
