package api

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/internal/doorway"
)

// Config says how a Server works. Zero values get the defaults named.
type Config struct {
	Addr           string      // default 127.0.0.1:50051; port 0 picks a free one; Off: only Handler answers
	TLS            *tls.Config // nil: plain, which only loopback is fit for
	MaxConnections int         // of gRPC, TLS handshakes included; one above it is closed; default 1,000

	Token string // required: what callers show as "authorization: Bearer TOKEN"

	// MaxRequestBytes bounds a request; default 2 MiB: a command's payload of
	// 1 MiB and its envelope.
	MaxRequestBytes int

	// BarrierTimeout bounds how long a read waits for the store to catch up
	// with the stream; then it answers what there is. Default 1 s.
	BarrierTimeout time.Duration

	// Of REST: how long one piece of an answer may wait for a reader that takes
	// nothing, before it is cut (default 30 s); how long a request's body may take
	// (default 30 s); how often an idle stream of
	// events shows life (default 15 s); how many streams there may be at once
	// (default 256).
	WriteTimeout   time.Duration
	BodyTimeout    time.Duration
	Heartbeat      time.Duration
	MaxRESTStreams int

	Logger     *slog.Logger          // nil: silent
	Registerer prometheus.Registerer // nil: metrics are counted and not shown
}

// Off is the Addr of a server without a gRPC listener.
const Off = "off"

// MinTokenBytes is the shortest token taken: it is all that guards the API.
const MinTokenBytes = 16

func (c Config) withDefaults() Config {
	if c.Addr == "" {
		c.Addr = "127.0.0.1:50051"
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 1000
	}
	if c.MaxRequestBytes == 0 {
		c.MaxRequestBytes = 2 << 20
	}
	if c.BarrierTimeout == 0 {
		c.BarrierTimeout = time.Second
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = 30 * time.Second
	}
	if c.BodyTimeout == 0 {
		c.BodyTimeout = 30 * time.Second
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 15 * time.Second
	}
	if c.MaxRESTStreams == 0 {
		c.MaxRESTStreams = 256
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// doorway is the gRPC listener: plain, or with TLS and the protocol gRPC's
// clients insist on.
func (c Config) doorway() doorway.Config {
	d := doorway.Config{Name: "grpc", Addr: c.Addr, Max: c.MaxConnections, Logger: c.Logger, Registerer: c.Registerer}
	if c.TLS != nil {
		d.Addr, d.TLSAddr, d.TLS = "", c.Addr, c.TLS.Clone()
		d.TLS.NextProtos = []string{"h2"}
	}
	return d
}

func (c Config) validate(n Needs) error {
	switch {
	case len(c.Token) < MinTokenBytes:
		return fmt.Errorf("api: Config.Token is %d bytes long, at least %d are required", len(c.Token), MinTokenBytes)
	case c.MaxConnections < 0:
		return errors.New("api: Config.MaxConnections must not be negative")
	case c.MaxRequestBytes < 0 || c.BarrierTimeout < 0:
		return errors.New("api: Config.MaxRequestBytes and BarrierTimeout must not be negative")
	case c.WriteTimeout < 0 || c.BodyTimeout < 0 || c.Heartbeat < 0 || c.MaxRESTStreams < 0:
		return errors.New("api: Config.WriteTimeout, BodyTimeout, Heartbeat and MaxRESTStreams must not be negative")
	case n.Devices == nil || n.Commands == nil || n.Reader == nil || n.Feed == nil:
		return errors.New("api: Needs.Devices, Commands, Reader and Feed are required")
	}
	return nil
}
