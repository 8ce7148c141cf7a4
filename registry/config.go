package registry

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says how a Registry works. Zero values get the defaults named.
type Config struct {
	Store  Store  // required
	Pepper []byte // required: PepperBytes of randomness, from LoadPepper
	Open   bool   // let peers in that show no credential, into the default tenant

	// CacheSize bounds the principals remembered, about 400 bytes each;
	// default 65,536. Unknown names are remembered up to an eighth of it.
	CacheSize int

	// LookupTimeout bounds one question to the Store, waiting for its turn
	// included; default 5 s.
	LookupTimeout time.Duration

	// LookupsAtOnce bounds how many peers' questions the Store is asked at the
	// same time; default 64.
	LookupsAtOnce int

	Logger     *slog.Logger          // nil: silent
	Registerer prometheus.Registerer // nil: metrics are counted and not shown
}

func (c Config) withDefaults() Config {
	if c.CacheSize == 0 {
		c.CacheSize = 65536
	}
	if c.LookupTimeout == 0 {
		c.LookupTimeout = 5 * time.Second
	}
	if c.LookupsAtOnce == 0 {
		c.LookupsAtOnce = 64
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Store == nil:
		return errors.New("registry: Config.Store is missing")
	case len(c.Pepper) != PepperBytes:
		return fmt.Errorf("registry: Config.Pepper is %d bytes long instead of %d", len(c.Pepper), PepperBytes)
	case c.CacheSize < 0 || c.LookupTimeout < 0 || c.LookupsAtOnce < 0:
		return errors.New("registry: Config.CacheSize, LookupTimeout and LookupsAtOnce must not be negative")
	}
	return nil
}
