package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Durability says what an acknowledgement of this belt means.
type Durability string

// The durabilities. Strict on an external server is Verified, when its settings
// could be seen, or Trusted, when whether it syncs is its operator's word.
const (
	Strict   Durability = "strict"
	Relaxed  Durability = "relaxed"
	Verified Durability = "verified"
	Trusted  Durability = "trusted"
)

// Server is an embedded NATS server (pipeline/embedded.Server).
type Server interface {
	InProcessConn() (net.Conn, error)
	Credentials() (user, password string)
	Healthy() error
	Restarts() uint64                       // in process, after a fault
	Stage() error                           // streams were made
	Disk() (free, reserve int64, err error) // of the disk, in bytes; reserve is not for messages
}

// Options say which server to use and how much to hold. One of Server and URL
// is required; the rest has defaults.
type Options struct {
	Server     Server     // in process
	URL        string     // or external: nats://user:password@host:4222[,…]
	Durability Durability // Strict (default) or Relaxed; of URL also Verified and Trusted, and Strict is one of these
	Replicas   int        // of streams on an external cluster; default 1
	Verify     Verify     // how the settings of URL can be seen

	NodeName        string        // shown in connections, events and leases; default "tributary"
	MaxMessageBytes int           // payload of one message; default 1 MiB; an external server's limit may lower it
	QueueMessages   int           // waiting for a commit, per stream; default 10,000
	QueueBytes      int           // the same in bytes; default 64 MiB
	BusyAfter       time.Duration // how long Submit blocks on a full queue; default 3 s
	AckTimeout      time.Duration // without a reply for so long the outcome is unknown; default 5 s
	DeadLetterBytes int64         // DEAD_LETTERS keeps the newest; default 256 MiB
	StreamBytes     int64         // TELEMETRY holds no more, and Submit waits, then answers Busy; 0: what the disk has
	TopicBytes      int64         // TOPICS keeps the newest, for sessions that are away; default 256 MiB
	MaxRetained     int64         // topics with a retained message; default 100,000
	MaxSessions     int64         // sessions that outlive their connection, and wills; default 100,000

	Logger     *slog.Logger          // nil: silent
	Registerer prometheus.Registerer // nil: metrics are kept, not shown
}

// withDefaults fills what is not set and checks what is.
func (o Options) withDefaults() (Options, error) {
	if (o.Server == nil) == (o.URL == "") {
		return o, errors.New("pipeline: exactly one of an embedded server and a URL is needed")
	}
	if err := o.settleDurability(); err != nil {
		return o, err
	}
	o.Replicas = cmp.Or(o.Replicas, 1)
	o.NodeName = cmp.Or(o.NodeName, "tributary")
	o.MaxMessageBytes = cmp.Or(o.MaxMessageBytes, 1<<20)
	o.QueueMessages = cmp.Or(o.QueueMessages, 10_000)
	o.QueueBytes = cmp.Or(o.QueueBytes, 64<<20)
	o.BusyAfter = cmp.Or(o.BusyAfter, 3*time.Second)
	o.AckTimeout = cmp.Or(o.AckTimeout, 5*time.Second)
	o.DeadLetterBytes = cmp.Or(o.DeadLetterBytes, defaultDeadLetterBytes)
	o.TopicBytes = cmp.Or(o.TopicBytes, defaultTopicBytes)
	o.MaxRetained = cmp.Or(o.MaxRetained, defaultLastValues)
	o.MaxSessions = cmp.Or(o.MaxSessions, defaultLastValues)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// settleDurability says of an external server which kind of strict is meant.
func (o *Options) settleDurability() error {
	o.Durability = cmp.Or(o.Durability, Strict)
	if o.URL != "" && o.Durability == Strict {
		o.Durability = Trusted
		if o.Verify.any() {
			o.Durability = Verified
		}
	}
	switch o.Durability {
	case Strict, Relaxed:
		return nil
	case Trusted:
		if o.URL != "" {
			return nil
		}
	case Verified:
		if o.URL != "" && o.Verify.any() {
			return nil
		}
	}
	return fmt.Errorf("pipeline: durability %q is not one that this server can be asked for", o.Durability)
}
