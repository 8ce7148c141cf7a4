package adapters

import "context"

// Replies is what a Gate may offer besides: it takes messages to receivers that live
// as long as their link, at whichever node they stand. Nothing is kept on the way. A
// door asks its gate for it by a type assertion, and without it finds only receivers
// of its own.
type Replies interface {
	// Receive calls take with what is sent to a tenant's address, one at a time and in
	// each sender's order, until stop. take must not block, may keep data, and calls
	// done once: with nil when the receiver accepted it, or with what the sender is to
	// be told. taken is called, from another goroutine and maybe more than once, when a
	// newer receiver has come to the address. Errors: Unavailable.
	Receive(ctx context.Context, tenant, address string, take func(data []byte, done func(error)), taken func()) (stop func(), err error)

	// Find answers NotFound when nobody receives at the address, and Unavailable when
	// that cannot be found out.
	Find(ctx context.Context, tenant, address string) error

	// Send takes data to the receiver at the address. done is called once, from another
	// goroutine, with what its take was answered, however long that takes, or NotFound,
	// TooLarge, or Unavailable when its node was lost.
	Send(tenant, address string, data []byte, done func(error))
}
