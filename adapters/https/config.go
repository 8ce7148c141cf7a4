package https

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/internal/doorway"
)

// Config is what an operator may choose of the HTTP door. The zero value of a
// field means its default, named in its comment.
type Config struct {
	Addr            string      // host:port to listen on, port 0 picks a free one, "off" for none; 127.0.0.1:8080
	TLSAddr         string      // host:port to listen on with TLS; none
	TLS             *tls.Config // for TLSAddr
	MaxMessageBytes int         // body of a telemetry message or an answer; 1 MiB
	MaxHeaderBytes  int         // request line and headers together; 16 KiB
	MaxConnections  int         // of both addresses together, WebSockets included; one above it is answered 503 and closed, with TLS closed; 10,000
	MaxPolls        int         // open command polls of one device; 16

	WebSockets []WebSocket // what else is spoken here; none
	Origins    []string    // web pages, as https://host:port, that may open WebSockets besides our own; "*" for any; none

	DefaultLock time.Duration // how long a polled command is the device's, unless lock= says; 30 s
	MaxLock     time.Duration // the most lock= can ask for; 1 h
	MaxWait     time.Duration // the most wait= can ask for; 60 s
	Linger      time.Duration // how long a device's session outlives its last poll; 2 s
	Heartbeat   time.Duration // between comments on a silent event stream; 15 s

	HeaderTimeout time.Duration // for a request's headers; 10 s
	BodyTimeout   time.Duration // for headers and body together; 30 s
	AckTimeout    time.Duration // for the house to say that something is stored; 60 s
	WriteTimeout  time.Duration // for the peer to take an answer; 10 s
	IdleTimeout   time.Duration // of a kept-alive connection between requests; 2 min

	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil keeps the metrics private
}

// maxCommands bounds max= of a poll, streamWindow is its default on an event
// stream: how many commands a device may hold without having settled them.
const (
	maxCommands  = 100
	streamWindow = 16
)

func (c Config) withDefaults() Config {
	setString(&c.Addr, "127.0.0.1:8080")
	setDefault(&c.MaxMessageBytes, 1<<20)
	setDefault(&c.MaxHeaderBytes, 16<<10)
	setDefault(&c.MaxConnections, doorway.DefaultMax)
	setDefault(&c.MaxPolls, 16)
	setDefault(&c.DefaultLock, 30*time.Second)
	setDefault(&c.MaxLock, time.Hour)
	setDefault(&c.MaxWait, time.Minute)
	setDefault(&c.Linger, 2*time.Second)
	setDefault(&c.Heartbeat, 15*time.Second)
	setDefault(&c.HeaderTimeout, 10*time.Second)
	setDefault(&c.BodyTimeout, 30*time.Second)
	setDefault(&c.AckTimeout, time.Minute)
	setDefault(&c.WriteTimeout, 10*time.Second)
	setDefault(&c.IdleTimeout, 2*time.Minute)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	return c
}

func (c Config) validate() error {
	if _, _, err := net.SplitHostPort(c.Addr); err != nil && c.Addr != doorway.Off {
		return fmt.Errorf("http: address %q is not host:port: %w", c.Addr, err)
	}
	for name, n := range map[string]int64{
		"maximum message size": int64(c.MaxMessageBytes), "maximum header size": int64(c.MaxHeaderBytes),
		"connection limit": int64(c.MaxConnections), "poll limit": int64(c.MaxPolls),
		"default lock": int64(c.DefaultLock), "maximum lock": int64(c.MaxLock),
		"maximum wait": int64(c.MaxWait), "linger": int64(c.Linger), "heartbeat": int64(c.Heartbeat),
		"header timeout": int64(c.HeaderTimeout), "body timeout": int64(c.BodyTimeout),
		"ack timeout": int64(c.AckTimeout), "write timeout": int64(c.WriteTimeout), "idle timeout": int64(c.IdleTimeout),
	} {
		if n < 0 {
			return fmt.Errorf("http: %s must not be negative", name)
		}
	}
	if c.DefaultLock > c.MaxLock {
		return fmt.Errorf("http: default lock %s is above the maximum lock %s", c.DefaultLock, c.MaxLock)
	}
	return nil
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

func setString(field *string, value string) {
	if *field == "" {
		*field = value
	}
}
