package token

import (
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says how a Book works. Zero values get the defaults named.
type Config struct {
	Store  Store  // required
	Pepper []byte // required: at least 32 bytes, the same on every node

	// MaxPerTenant bounds the tokens of one tenant, since all are in memory;
	// default 1,000.
	MaxPerTenant int

	// Patience bounds how long a call waits for this node to hear of what was
	// written, or to have read what there is; default 5 s.
	Patience time.Duration

	Logger     *slog.Logger          // nil: silent
	Registerer prometheus.Registerer // nil: metrics are counted and not shown
}

func (c Config) withDefaults() Config {
	if c.MaxPerTenant == 0 {
		c.MaxPerTenant = 1000
	}
	if c.Patience == 0 {
		c.Patience = 5 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Store == nil:
		return errors.New("token: Config.Store is missing")
	case len(c.Pepper) < 32:
		return errors.New("token: Config.Pepper is shorter than 32 bytes")
	case c.MaxPerTenant < 0 || c.Patience < 0:
		return errors.New("token: Config.MaxPerTenant and Patience must not be negative")
	}
	return nil
}
