package topic

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// Service serves the topics of every tenant on this node. It implements
// adapters.Topics.
type Service struct {
	cfg      Config
	log      Log
	sessions Sessions
	commands Commands
	metrics  *metrics
	ctx      context.Context // ends with Shutdown
	cancel   context.CancelFunc
	feeds    [sources]*feed
	readers  chan struct{} // a place for each member that is read for alone

	mu      sync.Mutex
	tenants map[string]*tenant
	members map[device.SessionKey]*member
	index   index
	work    sync.WaitGroup
}

var _ adapters.Topics = (*Service)(nil)

// tenant is what is subscribed to in one tenant on this node.
type tenant struct {
	tree tree
	name string

	turn  sync.Mutex // of listening and not listening any more
	ears  int        // subscriptions that want what is cast
	quiet func()

	sharing sync.Mutex // of opening and closing what follows
	shares  map[device.Group]*share
}

// New makes a Service; Run lets it hear of sessions.
func New(cfg Config, log Log, sessions Sessions, commands Commands) (*Service, error) {
	cfg = cfg.withDefaults()
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, log: log, sessions: sessions, commands: commands, metrics: m, readers: make(chan struct{}, cfg.Readers),
		tenants: map[string]*tenant{}, members: map[device.SessionKey]*member{}, index: index{rows: map[device.SessionKey]row{}, groups: map[device.SessionKey][]device.Group{}, sizes: map[device.Group]int{}, taken: map[device.SessionKey][]device.Taken{}},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for _, src := range []device.Source{device.SourceTopics, device.SourceTelemetry} {
		s.feeds[src] = &feed{s: s, src: src}
	}
	return s, nil
}

// Shutdown stops serving. The doors are closed before.
func (s *Service) Shutdown(ctx context.Context) error {
	s.cancel()
	done := make(chan struct{})
	go func() {
		s.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("topics: %w", ctx.Err())
	}
}

// tenantOf is the tenant, made when it is not there.
func (s *Service) tenantOf(name string) *tenant {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tenants[name]
	if t == nil {
		t = &tenant{name: name, shares: map[device.Group]*share{}}
		s.tenants[name] = t
	}
	return t
}

func (s *Service) tenantIf(name string) *tenant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tenants[name]
}

// listen hears what is cast to the tenant for one more subscription.
func (s *Service) listen(ctx context.Context, t *tenant) error {
	t.turn.Lock()
	defer t.turn.Unlock()
	if t.ears == 0 {
		quiet, err := s.log.Hear(ctx, t.name, func(p *device.Publication) { s.heard(t, p) })
		if err != nil {
			return err
		}
		t.quiet = quiet
	}
	t.ears++
	return nil
}

func (t *tenant) ignore() {
	t.turn.Lock()
	defer t.turn.Unlock()
	if t.ears--; t.ears == 0 {
		t.quiet()
	}
}

func (s *Service) heard(t *tenant, p *device.Publication) {
	defer s.contain("a message that was cast")
	if subs := t.tree.match(p.Topic, nil); len(subs) > 0 {
		deliver(device.Ref{}, p, subs)
	}
}

// contain keeps a panic of ours from ending the node.
func (s *Service) contain(what string) {
	if r := recover(); r != nil {
		s.metrics.panics.Inc()
		s.cfg.Logger.Error("topics failed by our fault", "part", what, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	}
}

// background runs f so that Shutdown waits for it.
func (s *Service) background(f func()) {
	s.work.Go(func() {
		defer s.contain("work in the background")
		f()
	})
}

// pause waits for d, or less when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
