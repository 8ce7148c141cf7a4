package registry

import (
	"context"

	"github.com/tributary-iot/tributary/device"
)

// Store keeps one record for every principal: bytes it does not look into,
// each with a revision that rises with every write of that record. It is a
// small consistent map, not a database: the registry does the thinking.
//
// Implementations use only the words of package device and built-in types, so
// they need not import this package. registrytest.Test proves one.
//
// An id is a principal's, or of no tenant and a device of 64 hexadecimal digits;
// listings show the former only.
//
// Errors: an *device.Error of code NotFound or Conflict where said below;
// anything else is an outage, after which the same call may be made again.
// All methods are safe for use from any goroutine. Bytes given are not kept
// after the call returns, and bytes answered belong to the caller.
type Store interface {
	// Get answers a record and its revision, or NotFound. It is never older
	// than what a write returned for or Watch reported in this process: on a
	// replicated bucket it reads from the leader.
	Get(ctx context.Context, id device.ID) (value []byte, revision uint64, err error)

	// Create stores a record that must not exist (Conflict when it does), also
	// after an earlier one of that name was deleted.
	Create(ctx context.Context, id device.ID, value []byte) (revision uint64, err error)

	// Update replaces a record whose revision is still the given one; Conflict
	// when it is not, or when the record is gone.
	Update(ctx context.Context, id device.ID, value []byte, revision uint64) (newRevision uint64, err error)

	// Delete removes a record whose revision is still the given one; Conflict
	// when it is not, or when the record is gone.
	Delete(ctx context.Context, id device.ID, revision uint64) error

	// List calls each for the records of one tenant, at most limit times
	// (limit > 0), in an order of the Store's own, from a cursor on: "" is the
	// beginning, and next, where to go on, is "" at the end. A page costs about
	// what it holds, not what the tenant has. A record that is there all the
	// while is seen exactly once by who follows the cursors; one made or deleted
	// meanwhile may be seen or not. An error from each ends the listing and is
	// answered; Invalid for a cursor it never gave.
	List(ctx context.Context, tenant, cursor string, limit int, each EntryFunc) (next string, err error)

	// Watch reports every change of any tenant's records from the moment it
	// calls ready, until ctx ends (it answers nil then) or a change may have
	// been missed (it answers why; the caller starts again). Changes of one
	// record come in order, from one goroutine; each is seen within a second
	// of the write on every node, and more than one change of the same
	// record may be reported as the last of them.
	Watch(ctx context.Context, ready func(), changed ChangeFunc) error
}

// EntryFunc takes one record of a listing. It is an alias, so that a Store can
// be written without importing this package.
type EntryFunc = func(id device.ID, value []byte, revision uint64) error

// ChangeFunc takes one change: the record's new bytes, or nil when it was
// deleted. It does not block.
type ChangeFunc = func(id device.ID, value []byte, revision uint64)
