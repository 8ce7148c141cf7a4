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

	// List calls each for the records of one tenant whose device name sorts
	// after the given one ("" is before all), in byte order of the device
	// names, at most limit times (limit > 0). An error from each ends the
	// listing and is answered.
	List(ctx context.Context, tenant, after string, limit int, each EntryFunc) error

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
