package token

import "context"

// Store keeps one record for every token: bytes it does not look into. It uses
// built-in types only, so that it can be written without importing this package.
//
// Errors: a *device.Error of code Conflict where said below; anything else is an
// outage, after which the same call may be made again. All methods are safe for
// use from any goroutine, and bytes are not kept after a call.
type Store interface {
	// Create stores a record that must not exist (Conflict when it does), also
	// after an earlier one of that name was deleted.
	Create(ctx context.Context, tenant, name string, value []byte) error

	// Delete removes a record; one that is gone is no error.
	Delete(ctx context.Context, tenant, name string) error

	// Watch calls changed for every record there is, then ready, and then for
	// every change, in order and from one goroutine, within a second of the
	// write on every node, with nil for a record that was deleted. It ends
	// with ctx (and answers nil), or when a change may have been missed (and
	// answers why; the caller starts again).
	Watch(ctx context.Context, ready func(), changed ChangeFunc) error
}

// ChangeFunc takes one record, or nil when it was deleted. It does not block.
type ChangeFunc = func(tenant, name string, value []byte)
