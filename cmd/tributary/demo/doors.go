package demo

import "context"

// handler carries out a command and gives its answer.
type handler func(name string, payload []byte) (status int, answer []byte)

// link is one device's connection through one door, on that protocol's own
// client library.
type link interface {
	// send answers nil once the server acknowledged the reading.
	send(ctx context.Context, payload []byte) error
	// serve receives commands until ctx or the connection ends.
	serve(ctx context.Context, obey handler) error
	close()
}

// doorKind is a protocol and how to come in by it.
type doorKind struct {
	protocol string // as in addresses.json
	connect  func(ctx context.Context, addr, name string) (link, error)
}

var doors = []doorKind{
	{"mqtt", connectMQTT},
	{"amqp", connectAMQP},
	{"http", connectHTTP},
}
