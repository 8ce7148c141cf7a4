package token

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// Book holds every token. Make one with New; it answers while Run runs.
type Book struct {
	cfg     Config
	metrics *metrics

	stopping context.Context // ends when Shutdown begins
	stop     context.CancelFunc
	running  sync.RWMutex // read-locked while Run runs

	mu     sync.Mutex
	synced bool // what is held is what the Store holds
	index
	news chan struct{} // closed, and made anew, when anything above changes
}

// index finds a token by what it is called and by what it says.
type index struct {
	names map[key]*entry
	sums  map[sum]*entry
}

type key struct{ tenant, name string }

// entry is one token; life ends when it does.
type entry struct {
	token device.Token
	sum   sum
	life  context.Context
	end   context.CancelFunc
}

// New checks the configuration; it neither reads nor writes the Store.
func New(cfg Config) (*Book, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	b := &Book{cfg: cfg, index: newIndex(), news: make(chan struct{})}
	b.stopping, b.stop = context.WithCancel(context.Background())
	var err error
	if b.metrics, err = newMetrics(cfg.Registerer); err != nil {
		return nil, err
	}
	return b, nil
}

// Run keeps the book true until ctx ends or Shutdown is called, and then
// answers nil. When the watch breaks it is begun again; until it stands no token
// is let in, because it might have been removed.
func (b *Book) Run(ctx context.Context) error {
	b.running.RLock()
	defer b.running.RUnlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.stopping, cancel)()
	const firstPause, maxPause = 100 * time.Millisecond, 5 * time.Second
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		began, err := b.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if began {
			pause = firstPause
		}
		b.cfg.Logger.Warn("API tokens are no longer followed; none is let in until they are", "error", err, "retry_in", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// follow is one watch: what there is goes into a new index, which takes the
// place of the old one, and is then kept true.
func (b *Book) follow(ctx context.Context) (began bool, err error) {
	fresh := newIndex()
	var ready atomic.Bool
	err = b.cfg.Store.Watch(ctx, func() { b.replace(fresh); ready.Store(true) }, func(tenant, name string, value []byte) {
		if !ready.Load() {
			b.put(&fresh, tenant, name, value)
			return
		}
		b.change(func() { b.put(&b.index, tenant, name, value) })
	})
	b.change(func() { b.synced = false })
	return ready.Load(), err
}

// change does something under the lock and tells those who wait.
func (b *Book) change(do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	do()
	b.metrics.tokens.Set(float64(len(b.names)))
	close(b.news)
	b.news = make(chan struct{})
}

// replace takes over a whole index. Tokens in both live on.
func (b *Book) replace(fresh index) {
	b.change(func() {
		for k, old := range b.names {
			now := fresh.names[k]
			if now == nil || now.sum != old.sum || now.token != old.token {
				old.end()
				continue
			}
			now.end()
			fresh.add(old)
		}
		b.index, b.synced = fresh, true
	})
}

// put enters one record, or takes it out when value is nil.
func (b *Book) put(to *index, tenant, name string, value []byte) {
	if old := to.names[key{tenant, name}]; old != nil {
		to.remove(old)
		old.end()
	}
	if value == nil {
		return
	}
	t, s, err := decode(tenant, name, value)
	if err != nil {
		b.cfg.Logger.Error("a token is left out", "error", err)
		return
	}
	to.add(newEntry(t, s))
}

func newIndex() index {
	return index{names: map[key]*entry{}, sums: map[sum]*entry{}}
}

func (i *index) add(e *entry) {
	i.names[key{e.token.Tenant, e.token.Name}] = e
	i.sums[e.sum] = e
}

func (i *index) remove(e *entry) {
	delete(i.names, key{e.token.Tenant, e.token.Name})
	if i.sums[e.sum] == e {
		delete(i.sums, e.sum)
	}
}

func newEntry(t device.Token, s sum) *entry {
	e := &entry{token: t, sum: s}
	if t.ExpiresAt.IsZero() {
		e.life, e.end = context.WithCancel(context.Background())
	} else {
		e.life, e.end = context.WithDeadline(context.Background(), t.ExpiresAt)
	}
	return e
}

// wait returns once when says yes under the lock, or an error when ctx, the
// book or the patience has come to its end.
func (b *Book) wait(ctx context.Context, when func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Patience)
	defer cancel()
	for {
		b.mu.Lock()
		yes, news := when(), b.news
		b.mu.Unlock()
		if yes {
			return nil
		}
		select {
		case <-news:
		case <-b.stopping.Done():
			return fmt.Errorf("token: stopping: %w", context.Canceled)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Shutdown ends Run, so that the Store can be closed after it. It works before
// Run and twice.
func (b *Book) Shutdown(ctx context.Context) error {
	b.stop()
	ended := make(chan struct{})
	go func() {
		b.running.Lock() // once every Run has ended
		defer b.running.Unlock()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
