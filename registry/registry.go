package registry

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/keyed"
)

// Registry answers who may speak. Make one with New; it works at once, and
// faster (with its cache) while Run runs.
type Registry struct {
	cfg     Config
	cache   *cache
	metrics *metrics
	dummy   []proof       // compared with when there is nothing to compare with
	asking  chan struct{} // holds one for each question to the Store under way

	stopping context.Context // ends when Shutdown begins
	stop     context.CancelFunc
	running  sync.RWMutex // read-locked while Run runs

	holds holds
}

// New checks the configuration; it neither reads nor writes the Store.
func New(cfg Config) (*Registry, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := newCache(cfg.CacheSize)
	r := &Registry{cfg: cfg, cache: c, dummy: make([]proof, 1), asking: make(chan struct{}, cfg.LookupsAtOnce)}
	rand.Read(r.dummy[0].hash[:])
	r.holds.of = keyed.New(func(h *hold) device.ID { return h.id })
	r.metrics = newMetrics(c, &r.holds)
	r.stopping, r.stop = context.WithCancel(context.Background())
	if err := r.metrics.register(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("registry: register metrics: %w", err)
	}
	return r, nil
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
		var rechecks sync.WaitGroup
		watch, end := context.WithCancel(ctx)
		err := r.cfg.Store.Watch(ctx, func() {
			r.cache.watch(true)
			ready.Store(true)
			rechecks.Go(func() { r.recheckAll(watch) })
		}, r.changed)
		end()
		rechecks.Wait()
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

// changed takes one change from the watch. It may be older than what the Store
// has answered since, so it only says whom to look at again.
func (r *Registry) changed(id device.ID, _ []byte, _ uint64) {
	r.cache.drop(id)
	if r.holds.has(id) {
		go r.recheck(r.stopping, id)
	}
}
