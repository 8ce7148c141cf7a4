// Package layertest holds the house up: its tests walk every package of the
// module and fail on an import that no arrow below allows, on a package that
// is entered nowhere, on a package without its sentence and on a file too long.
package layertest

// A room is one package and what it may import. Its tests may import what it
// may, other people's modules, and the test helpers.
type room struct {
	path   string   // below the module; see docs/architecture.md
	rooms  []string // packages of this module; a room's name does not include its sub-packages
	others []string // import path prefixes of other modules
	tests  []string // packages of this module that only its tests may import
	helper bool     // made for tests: tests of any room may import it
}

// What several rooms lean on. Metrics are everybody's; adapters and storage
// are contracts without code, so importing them ties nobody to a sibling.
const (
	prometheus  = "github.com/prometheus/client_golang"
	protobuf    = "google.golang.org/protobuf"
	grpc        = "google.golang.org/grpc"
	gateway     = "github.com/grpc-ecosystem/grpc-gateway/v2" // generated REST
	googleAPI   = "google.golang.org/genproto/googleapis"
	amqpClient  = "github.com/Azure/go-amqp"
	mqttClient  = "github.com/eclipse/paho.mqtt.golang"
	mqtt5Client = "github.com/eclipse/paho.golang"
)

// everyRoom is what cmd/tributary ties together.
var everyRoom = []string{
	"adapters", "adapters/amqp", "adapters/bridge", "adapters/https", "adapters/mqtt", "api", "batch", "command", "device",
	"device/devicepb", "normalize", "pipeline", "pipeline/embedded", "pipeline/natsdoor", "presence", "proto/tributary/v1",
	"registry", "storage", "storage/sqlite", "token", "topic",
}

// layers is the whole house. A new package is entered here on purpose, and a
// new arrow needs a reason in docs/decisions.
var layers = []room{
	// The words.
	{path: "device"},
	{path: "proto/tributary/v1", others: []string{protobuf, grpc, gateway, googleAPI}},
	{path: "device/devicepb", rooms: []string{"device", "proto/tributary/v1"}, others: []string{protobuf}},
	{path: "normalize", rooms: []string{"device"}, others: []string{"github.com/fxamacker/cbor/v2", "github.com/go-json-experiment/json"}},

	// The doors. Only the bridge, cmd and tests use other people's MQTT and AMQP
	// clients: the wire codecs are our own (docs/decisions/0002).
	{path: "adapters", rooms: []string{"device"}},
	{path: "adapters/adaptertest", rooms: []string{"adapters", "device"}, helper: true},
	{path: "adapters/mqtt", rooms: []string{"adapters", "adapters/mqtt/packet", "device", "internal/doorway", "internal/keyed", "internal/metrics", "internal/parking", "normalize"}, others: []string{prometheus}, tests: []string{"topic"}},
	{path: "adapters/mqtt/packet"},
	{path: "adapters/amqp", rooms: []string{"adapters", "adapters/amqp/wire", "adapters/amqp/words", "device", "internal/doorway", "internal/metrics", "normalize"}, others: []string{prometheus}},
	{path: "adapters/amqp/wire"},
	{path: "adapters/amqp/words", rooms: []string{"adapters/amqp/wire"}},
	{
		path:   "adapters/bridge", // a client, whose library needs a guard made of our codec (docs/decisions/0027)
		rooms:  []string{"adapters", "adapters/amqp/wire", "adapters/amqp/words", "device", "internal/metrics", "normalize"},
		others: []string{amqpClient, prometheus},
		tests:  []string{"adapters/amqp"}, // as the broker
	},
	{path: "adapters/https", rooms: []string{"adapters", "device", "internal/doorway", "internal/metrics", "normalize"}, others: []string{prometheus, "github.com/gorilla/websocket"}},

	// The belt: alone speaks to NATS; its lower half alone is NATS.
	{
		path:  "pipeline",
		rooms: []string{"adapters", "device", "device/devicepb", "storage"},
		others: []string{
			"github.com/nats-io/nats.go", "github.com/nats-io/nuid", "github.com/synadia-io/orbit.go/jetstreamext",
			"golang.org/x/sync", prometheus,
		},
		tests: []string{"pipeline/embedded"},
	},
	{
		path: "pipeline/natsdoor", others: []string{"github.com/nats-io/nats.go", prometheus},
		tests: []string{"pipeline/embedded"},
	},
	{
		path: "pipeline/embedded", rooms: []string{"internal/durable"},
		others: []string{"golang.org/x/sync", "github.com/nats-io/nats-server/v2", "github.com/minio/highwayhash", prometheus},
	},

	// Who may speak, and what devices are told.
	{path: "registry", rooms: []string{"device", "internal/keyed"}, others: []string{prometheus}},
	{path: "registry/registrytest", rooms: []string{"device", "registry"}, helper: true},
	{path: "command", rooms: []string{"adapters", "device", "internal/keyed", "storage"}, others: []string{"github.com/oklog/ulid/v2", prometheus}},

	{path: "batch", rooms: []string{"device"}, others: []string{"github.com/oklog/ulid/v2", "golang.org/x/sync"}},
	{path: "topic", rooms: []string{"adapters", "device", "internal/metrics"}, others: []string{prometheus}},
	{path: "topic/topictest", rooms: []string{"adapters", "device"}, helper: true},
	{path: "token", rooms: []string{"device", "internal/metrics"}, others: []string{prometheus}},
	{path: "presence", rooms: []string{"device", "internal/keyed", "internal/metrics"}, others: []string{"github.com/oklog/ulid/v2", prometheus}},

	// What is kept.
	{path: "storage", rooms: []string{"device"}},
	{path: "storage/storagetest", rooms: []string{"device", "device/devicepb", "storage"}, helper: true},
	{
		path:   "storage/sqlite",
		rooms:  []string{"device", "device/devicepb", "storage"},
		others: []string{"modernc.org/sqlite", "github.com/klauspost/compress", prometheus},
	},

	// People and programs.
	{
		path:   "api",
		rooms:  []string{"device", "device/devicepb", "internal/doorway", "proto/tributary/v1", "storage"},
		others: []string{grpc, protobuf, prometheus, gateway, googleAPI},
	},

	// The wiring, and the clients it ships.
	{
		path:  "cmd/tributary",
		rooms: append([]string{"cmd/tributary/bench", "cmd/tributary/demo", "internal/doorway", "internal/durable", "internal/tlsfiles", "internal/options"}, everyRoom...),
		others: []string{
			"github.com/alecthomas/kong", "github.com/gofrs/flock", "github.com/oklog/ulid/v2", "golang.org/x/sync", "golang.org/x/term",
			grpc, protobuf, prometheus,
		},
	},
	{
		path: "cmd/tributary/bench", rooms: []string{"internal/rabbitmq", "proto/tributary/v1"},
		others: []string{amqpClient, mqttClient, grpc, "github.com/gorilla/websocket", "github.com/nats-io/nats-server/v2", "github.com/nats-io/nats.go", "golang.org/x/sync"},
	},
	{
		path:   "cmd/tributary/demo",
		rooms:  []string{"proto/tributary/v1"},
		others: []string{amqpClient, mqttClient, mqtt5Client, grpc, protobuf, "golang.org/x/term"},
	},

	// What others may start from.
	{path: "examples/consumer-go", rooms: []string{"proto/tributary/v1"}, others: []string{"github.com/nats-io/nats.go", protobuf}},

	// What breaks the server from outside: it knows the API, and the words of a position.
	{
		path: "internal/crashlab", rooms: []string{"device/devicepb", "internal/crashlab/faultfs", "proto/tributary/v1"},
		others: []string{amqpClient, mqtt5Client, grpc, "github.com/alecthomas/kong", "modernc.org/sqlite"},
	},
	{path: "internal/crashlab/faultfs", others: []string{"github.com/hanwen/go-fuse/v2"}, helper: true},

	// Tools, which know no room.
	{path: "internal/doorway", rooms: []string{"internal/metrics"}, others: []string{prometheus}},
	{path: "internal/durable"},
	{path: "internal/held"},
	{path: "internal/keyed"},
	{path: "internal/layertest", helper: true},
	{path: "internal/metrics", others: []string{prometheus}},
	{path: "internal/options", others: []string{"github.com/alecthomas/kong", "github.com/goccy/go-yaml"}},
	{path: "internal/parking"},
	{path: "internal/peer", rooms: []string{"internal/rabbitmq"}, helper: true},
	{path: "internal/rabbitmq"},
	{path: "internal/tlsfiles", rooms: []string{"internal/durable", "internal/metrics"}, others: []string{prometheus}},
}
