package registry

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// Registry answers who may speak. Make one with New; it works at once, and
// faster (with its cache) while Run runs.
type Registry struct {
	cfg     Config
	cache   *cache
	metrics *metrics
	dummy   []byte // compared with when there is nothing to compare with

	stopping context.Context // ends when Shutdown begins
	stop     context.CancelFunc
	running  sync.RWMutex // read-locked while Run runs

	mu       sync.Mutex
	onRevoke []func(device.ID)
}

// New checks the configuration; it neither reads nor writes the Store.
func New(cfg Config) (*Registry, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := newCache(cfg.CacheSize)
	r := &Registry{cfg: cfg, cache: c, metrics: newMetrics(c), dummy: make([]byte, 32)}
	rand.Read(r.dummy)
	r.stopping, r.stop = context.WithCancel(context.Background())
	if err := r.metrics.register(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("registry: register metrics: %w", err)
	}
	return r, nil
}

// OnRevoke asks for a call whenever a principal is disabled or removed, on
// this node or another, so that its sessions can be ended. It may be called
// more than once for one change, from any goroutine, and must not block. A
// change made on another node while Watching is false is not told.
func (r *Registry) OnRevoke(f func(device.ID)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onRevoke = append(r.onRevoke, f)
}

func (r *Registry) revoked(id device.ID) {
	r.mu.Lock()
	hooks := r.onRevoke
	r.mu.Unlock()
	for _, f := range hooks {
		f(id)
	}
}

// Watching reports whether changes made elsewhere are being followed. While
// they are not, every Authenticate asks the Store.
func (r *Registry) Watching() bool { return r.cache.isWatching() }

// Run follows the Store's changes until ctx ends or Shutdown is called, and
// then answers nil. When the watch breaks the cache is emptied and the watch
// begun again.
func (r *Registry) Run(ctx context.Context) error {
	r.running.RLock()
	defer r.running.RUnlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.stopping, cancel)()
	const firstPause, maxPause = 100 * time.Millisecond, 5 * time.Second
	pause := firstPause
	for {
		var ready atomic.Bool
		err := r.cfg.Store.Watch(ctx, func() { r.cache.watch(true); ready.Store(true) }, r.changed)
		r.cache.watch(false)
		if ready.Load() {
			pause = firstPause
		}
		if ctx.Err() != nil {
			return nil
		}
		r.cfg.Logger.Warn("the registry is no longer followed; authentications read the store until it is",
			"error", err, "retry_in", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

// Shutdown ends Run, so that the Store can be closed after it. Authenticate
// goes on to work, without the cache, as long as the Store does. It works
// before Run and twice.
func (r *Registry) Shutdown(ctx context.Context) error {
	r.stop()
	ended := make(chan struct{})
	go func() {
		r.running.Lock() // once every Run has ended
		defer r.running.Unlock()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("registry: the watch has not ended: %w", ctx.Err())
	}
}

// changed takes one change from the watch.
func (r *Registry) changed(id device.ID, value []byte, _ uint64) {
	r.cache.drop(id)
	if value == nil {
		r.revoked(id)
		return
	}
	rec, err := decodeRecord(id, value)
	if err != nil {
		r.cfg.Logger.Error("a record cannot be read: its device is refused", "device", id.String(), "error", err)
	}
	if err != nil || rec.Disabled {
		r.revoked(id)
	}
}
