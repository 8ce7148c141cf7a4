package mqtt

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/adapters"
)

// Config is everything that can be set about the door. A zero field takes its
// default.
type Config struct {
	Addr             string                   // host:port to listen on, port 0 picks a free one, "off" for none; default 127.0.0.1:1883
	TLSAddr          string                   // host:port to listen on with TLS; default none
	TLS              *tls.Config              // for TLSAddr
	MaxConnections   int                      // of both together; one above it is closed; default 10,000
	MaxMessageBytes  int                      // largest payload taken; default 1 MiB
	Window           int                      // unacknowledged QoS 1 messages of a connection, 1 to 65535; default 256
	MaxBufferedBytes int                      // payload bytes of a connection that the house has not decided about, beyond which nothing is read; default 8 MiB, at least two messages
	MaxBehindBytes   int                      // that wait to be written to a client, beyond which messages with QoS 0 are dropped for it; default 1 MiB
	CommandWindow    int                      // unacknowledged commands of a device, fewer when it asks for fewer; default 16
	MaxAttachments   int                      // devices one connection may receive commands for; default 256
	Topics           adapters.Topics          // the tenants' own topics; nil: they are refused
	MaxSessionExpiry time.Duration            // the longest a session outlives its connection, and how long one of 3.1.1 does; default 7 days, device.Forever for no bound
	AliasesIn        int                      // topic aliases a client may use; default 32
	Elsewhere        func(door string) string // where another server's door of that name (mqtt, mqtts) is reached, for clients we have to send away; "" when nobody knows. Nil: nobody does
	ConnectTimeout   time.Duration            // from accept to CONNECT, and for authentication; default 10 s
	HoldConnack      time.Duration            // how long CONNACK waits for the answer to a SUBSCRIBE that came with CONNECT, to leave with it; default 10 ms
	MaxKeepAlive     time.Duration            // longest keep-alive of a MQTT 5 client, up to 65535 s; default 10 min
	ParkAfter        time.Duration            // a plain connection silent for so long waits without a goroutine and a buffer, one that came, subscribed or sent a ping at once; default 5 s, negative never
	WriteTimeout     time.Duration            // for a peer to take 64 KiB, before it is cut; default 10 s

	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil keeps the metrics to ourselves
}

// Limits that are not worth a setting.
const (
	maxUnauthenticated = 64 << 10 // bytes of the CONNECT packet
	packetOverhead     = 96 << 10 // bytes a packet may have beside its payload: topic and properties
	maxClientID        = 256      // bytes of a client identifier
	maxQueuedOutput    = 64 << 10 // bytes waiting for a slow peer before we stop reading from it
	maxAliasesOut      = 32       // topics we give an alias, if the client takes so many
	lingerTime         = time.Second
	scrapBytes         = 512 // read at once of what a peer still sends when its session is over
)

func (c Config) withDefaults() Config {
	setDefault(&c.Addr, "127.0.0.1:1883")
	setDefault(&c.MaxMessageBytes, 1<<20)
	setDefault(&c.Window, 256)
	setDefault(&c.MaxBufferedBytes, max(8<<20, 2*c.MaxMessageBytes))
	setDefault(&c.MaxBehindBytes, 1<<20)
	setDefault(&c.CommandWindow, 16)
	setDefault(&c.MaxAttachments, 256)
	setDefault(&c.AliasesIn, 32)
	setDefault(&c.MaxSessionExpiry, 7*24*time.Hour)
	setDefault(&c.ConnectTimeout, 10*time.Second)
	setDefault(&c.HoldConnack, 10*time.Millisecond)
	setDefault(&c.MaxKeepAlive, 10*time.Minute)
	setDefault(&c.ParkAfter, 5*time.Second)
	setDefault(&c.WriteTimeout, 10*time.Second)
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
	case c.MaxMessageBytes < 1 || c.MaxMessageBytes > 128<<20:
		return fmt.Errorf("mqtt: message size limit is %d bytes, it must be 1 to %d", c.MaxMessageBytes, 128<<20)
	case c.MaxConnections < 0:
		return fmt.Errorf("mqtt: connection limit is %d, it must be above 0", c.MaxConnections)
	case c.Window < 1 || c.Window > 65_535:
		return fmt.Errorf("mqtt: window is %d, it must be 1 to 65535", c.Window)
	case c.MaxBufferedBytes < 0:
		return fmt.Errorf("mqtt: MaxBufferedBytes is %d, it must be above 0", c.MaxBufferedBytes)
	case c.MaxBehindBytes < 0:
		return fmt.Errorf("mqtt: MaxBehindBytes is %d, it must be above 0", c.MaxBehindBytes)
	case c.CommandWindow < 1 || c.CommandWindow > 65_535:
		return fmt.Errorf("mqtt: command window is %d, it must be 1 to 65535", c.CommandWindow)
	case c.AliasesIn < 0 || c.AliasesIn > 65_535:
		return fmt.Errorf("mqtt: topic alias limit is %d, it must be 0 to 65535", c.AliasesIn)
	case c.MaxAttachments < 1:
		return fmt.Errorf("mqtt: attachment limit is %d, it must be at least 1", c.MaxAttachments)
	case c.MaxKeepAlive < time.Second || c.MaxKeepAlive > 65_535*time.Second:
		return fmt.Errorf("mqtt: longest keep-alive is %v, it must be 1s to 65535s", c.MaxKeepAlive)
	case c.MaxSessionExpiry < time.Second:
		return fmt.Errorf("mqtt: longest session expiry is %v, it must be at least 1s", c.MaxSessionExpiry)
	case c.ConnectTimeout < 0 || c.HoldConnack < 0 || c.WriteTimeout < 0:
		return fmt.Errorf("mqtt: a time-out is negative")
	}
	return nil
}

// maxPacket is the Maximum Packet Size we announce.
func (c Config) maxPacket() int { return c.MaxMessageBytes + packetOverhead }
