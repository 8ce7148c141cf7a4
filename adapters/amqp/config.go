package amqp

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
)

// Config is everything that can be set about the door. A zero field takes its
// default.
type Config struct {
	Addr             string        // host:port to listen on, port 0 picks a free one, "off" for none; default 127.0.0.1:5672
	TLSAddr          string        // host:port to listen on with TLS; default none
	TLS              *tls.Config   // for TLSAddr
	MaxConnections   int           // of both together; one above it is closed; default 10,000
	ContainerID      string        // our name in OPEN; default "tributary"
	MaxMessageBytes  int           // largest payload taken; default 1 MiB
	MaxFrameSize     uint32        // largest frame taken, in bytes, at least 512; default 64 KiB
	Credit           int           // unanswered messages of a link; default 500
	CommandWindow    int           // unsettled commands of a link; default 100
	TelemetryWindow  int           // unsettled messages of an application's receiver; default 1000
	ReplyWindow      int           // answers that wait for credit at a reply node, and commands that wait for their end; default 1000
	MaxBufferedBytes int           // unanswered payload bytes of a connection, beyond which nothing is read; default 8 MiB, at least two messages
	MaxSessions      int           // sessions of a connection, 1 to 65535; default 16
	MaxLinks         int           // links of a session; default 64
	IdleTimeout      time.Duration // a peer silent for so long is cut; half of it is announced; default 2 min
	HandshakeTimeout time.Duration // from accept to OPEN, and for authentication and attaching; default 10 s
	WriteTimeout     time.Duration // a peer that takes no bytes for so long is cut; default 30 s
	DrainGrace       time.Duration // how long a draining receiver's credit waits for commands already queued; default 200 ms

	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil keeps the metrics to ourselves
}

// Limits that are not worth a setting.
const (
	sessionWindow    = 2048                   // transfer frames a peer may be ahead of us
	messageOverhead  = 64 << 10               // bytes a message may have beside its payload
	maxOutBytes      = 256 << 10              // unwritten bytes beyond which nothing is read and no command written
	maxOpenFrame     = 16 << 10               // bytes of the OPEN frame
	maxDeliveryTag   = 32                     // bytes (part 2, section 8.7)
	lingerTimeout    = time.Second            // how long we read on after our CLOSE, so that it arrives
	minPeerIdle      = 100 * time.Millisecond // the shortest idle-time-out of a peer we keep up with
	refusedRawBytes  = 64 << 10               // bytes of a refused message kept for its trail
	maxAsked         = 64                     // deliveries asked of a supply and not offered
	maxQueuedBytes   = 1 << 20                // offered bytes of a link beyond which nothing is asked for
	maxPartialFactor = 4                      // unfinished messages of a connection, in largest messages
)

func (c Config) withDefaults() Config {
	setDefault(&c.Addr, "127.0.0.1:5672")
	setDefault(&c.ContainerID, "tributary")
	setDefault(&c.MaxMessageBytes, 1<<20)
	setDefault(&c.MaxFrameSize, 64<<10)
	setDefault(&c.Credit, 500)
	setDefault(&c.CommandWindow, 100)
	setDefault(&c.TelemetryWindow, 1000)
	setDefault(&c.ReplyWindow, 1000)
	setDefault(&c.MaxBufferedBytes, max(8<<20, 2*c.MaxMessageBytes))
	setDefault(&c.MaxSessions, 16)
	setDefault(&c.MaxLinks, 64)
	setDefault(&c.IdleTimeout, 2*time.Minute)
	setDefault(&c.HandshakeTimeout, 10*time.Second)
	setDefault(&c.WriteTimeout, 30*time.Second)
	setDefault(&c.DrainGrace, 200*time.Millisecond)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c Config) validate() error {
	switch {
	case c.MaxMessageBytes < 1 || c.Credit < 1 || c.CommandWindow < 1 || c.TelemetryWindow < 1 || c.ReplyWindow < 1 || c.MaxLinks < 1:
		return fmt.Errorf("amqp: MaxMessageBytes, Credit, CommandWindow, TelemetryWindow, ReplyWindow and MaxLinks must be positive")
	case c.MaxConnections < 0:
		return fmt.Errorf("amqp: MaxConnections is %d, it must be above 0", c.MaxConnections)
	case c.MaxFrameSize < wire.MinMaxFrameSize:
		return fmt.Errorf("amqp: MaxFrameSize is %d, the protocol's least is %d", c.MaxFrameSize, wire.MinMaxFrameSize)
	case c.MaxBufferedBytes < c.MaxMessageBytes:
		return fmt.Errorf("amqp: MaxBufferedBytes is smaller than MaxMessageBytes")
	case c.MaxSessions < 1 || c.MaxSessions > math.MaxUint16:
		return fmt.Errorf("amqp: MaxSessions is %d, it must be 1 to %d", c.MaxSessions, math.MaxUint16)
	case c.IdleTimeout < 2*time.Millisecond || c.HandshakeTimeout < 0 || c.WriteTimeout < 0 || c.DrainGrace < 0:
		return fmt.Errorf("amqp: a time-out is negative or too short")
	}
	return nil
}

// maxTransferBytes bounds a message with all its sections; it is announced.
func (c *Config) maxTransferBytes() int { return c.MaxMessageBytes + messageOverhead }
