package command

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/keyed"
)

// Config is what the room may be told. The zero value of a field stands for
// its default.
type Config struct {
	// Node names this node in events; it is the same after a restart, so that
	// what the node held before is found again. Required.
	Node string

	// Acting answers under which incarnation this node acts now, or an error of
	// code Unavailable: then no session here is offered anything or may settle.
	// Nil: always, as the only node.
	Acting func() (incarnation string, err error)

	// Moved is called with a session that may no longer act because the device's
	// lease was taken on another node, and with when it was attached: one of the same
	// name that began later is newer. It must not block. Nil: nobody asks.
	Moved func(who device.Session, attached time.Time)

	// Alone says that no other node stores commands or transitions: what this one
	// has stored and read is all there is, and a device comes without its part of the
	// streams being read, unless it has commands. Leases do not block there.
	Alone bool

	// Bystander leaves to other nodes what at least one has to do for all:
	// keeping deadlines, giving back what dead nodes had sent, and removing what
	// has ended.
	Bystander bool

	// Stored answers the sequences of COMMANDS and COMMAND_EVENTS up to which
	// every store holds them (0 when it holds them under an older epoch).
	// Nil: there is no store, and nothing is ever removed from the streams.
	Stored func(ctx context.Context) (commands, events uint64, err error)

	DefaultTTL      time.Duration // deadline of a command that has none; 24 h
	MaxTTL          time.Duration // the longest a command may wait; 366 days
	ResponseTimeout time.Duration // of a command that gives none; 60 s
	MaxPayload      int           // bytes; 1 MiB
	MaxWaiting      int           // commands of one device that have not ended; 1,000
	Timeout         time.Duration // of one operation on a stream; 10 s
	RetryAfter      time.Duration // between attempts at what must be done, when a stream fails; 1 s
	IdleAfter       time.Duration // an unused actor is dropped; 30 s
	SweepEvery      time.Duration // between removals of ended commands; 2 s
	PurgeStep       uint64        // events are purged in steps of at least so many; 4,096
	PurgeDelay      time.Duration // and only so long after they could have been; 1 min

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (c Config) withDefaults() Config {
	orElse(&c.DefaultTTL, 24*time.Hour)
	orElse(&c.MaxTTL, 366*24*time.Hour)
	orElse(&c.ResponseTimeout, time.Minute)
	orElse(&c.MaxPayload, 1<<20)
	orElse(&c.MaxWaiting, 1000)
	orElse(&c.Timeout, 10*time.Second)
	orElse(&c.RetryAfter, time.Second)
	orElse(&c.IdleAfter, 30*time.Second)
	orElse(&c.SweepEvery, 2*time.Second)
	orElse(&c.PurgeStep, 4096)
	orElse(&c.PurgeDelay, time.Minute)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Acting == nil {
		c.Acting = func() (string, error) { return "", nil }
	}
	if c.Moved == nil {
		c.Moved = func(device.Session, time.Time) {}
	}
	return c
}

func orElse[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Service is the command room of one node. Its methods are safe for use from
// any goroutine, after Start.
type Service struct {
	cfg     Config
	log     Log
	mailbox Mailbox
	leases  Leases
	history History
	metrics *metrics

	ctx    context.Context // ends with Shutdown
	cancel context.CancelFunc
	wg     sync.WaitGroup
	ticks  chan struct{} // slots for deadlines being worked on
	rearm  chan struct{} // the earliest deadline has changed

	mu       sync.Mutex
	stopping bool
	actors   *keyed.Map[device.ID, actor]
	busy     int           // actors with work; idle is closed when it is 0 while stopping
	idle     chan struct{} // made by Shutdown
	table    *table
	requests feed // read so far
	events   feed
	watchers map[string][]*watcher
	heeds    map[*func(device.StoredEvent)]bool
}

// New makes a Service; Start brings it to life. history may be nil when there
// is no store on hand: then only commands still in the mailbox are found.
func New(cfg Config, log Log, mailbox Mailbox, leases Leases, history History) (*Service, error) {
	if cfg.Node == "" {
		return nil, device.Errorf(device.Invalid, "command: Config.Node is empty: it must name the node")
	}
	cfg = cfg.withDefaults()
	s := &Service{
		cfg: cfg, log: log, mailbox: mailbox, leases: leases, history: history,
		ticks:  make(chan struct{}, 256),
		rearm:  make(chan struct{}, 1),
		actors: keyed.New(func(a *actor) device.ID { return a.id }), table: newTable(cfg.Node), watchers: map[string][]*watcher{}, heeds: map[*func(device.StoredEvent)]bool{},
	}
	s.metrics = newMetrics(cfg.Registerer, s)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Start reads what the streams hold, puts what this node had sent before it was
// last stopped back in the queue ("session lost"), and goes on in the
// background: it follows the streams, keeps the deadlines (those missed
// meanwhile are met at once) and removes what has ended. When it returns,
// sessions may attach. ctx is for starting only.
func (s *Service) Start(ctx context.Context) error {
	s.wg.Go(func() { s.follow("requests", s.mailbox.Follow, &s.requests, s.onRequest) })
	s.wg.Go(func() { s.follow("events", s.log.Follow, &s.events, s.onEvent) })
	if err := s.catchUp(ctx); err != nil {
		s.cancel()
		s.wg.Wait()
		return err
	}
	s.recover(ctx)
	if !s.cfg.Bystander {
		s.wg.Go(s.keepDeadlines)
	}
	s.wg.Go(s.keepTidy)
	return nil
}

// Folded is how many requests and transitions of commands were read since the start.
func (s *Service) Folded() (commands, events uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests.count, s.events.count
}

// recover gives back what this node held in its earlier life. Whatever fails
// here is tried again by the actor, and at the latest when the device attaches.
func (s *Service) recover(ctx context.Context) {
	s.mu.Lock()
	held := map[device.ID]bool{}
	for _, e := range s.table.byID {
		if e.ours {
			held[e.dev.Value()] = true
		}
	}
	s.mu.Unlock()
	if len(held) == 0 {
		return
	}
	s.cfg.Logger.Info("returning what was sent before the restart to the queue", "devices", len(held))
	slots := make(chan struct{}, 64)
	var wg sync.WaitGroup
	for id := range held {
		slots <- struct{}{}
		wg.Add(1)
		s.with(id, func(a *actor, err error) {
			defer func() { <-slots; wg.Done() }()
			if err != nil {
				a.retry()
				return
			}
			a.reconcile()
		})
	}
	wg.Wait()
}

// Shutdown finishes what was begun, as far as ctx allows, and stops. Adapters
// detach their sessions before. It works before Start and twice.
func (s *Service) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	if s.idle == nil {
		s.idle = make(chan struct{})
		if s.busy == 0 {
			close(s.idle)
		}
	}
	idle := s.idle
	s.mu.Unlock()
	var err error
	select {
	case <-idle:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.cancel()
	s.wg.Wait()
	return err
}

// with runs op in the device's actor, in the order of calls. op is told why
// when the actor could not be loaded; it then holds nothing but its sessions.
func (s *Service) with(id device.ID, op func(a *actor, err error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.actorOf(id).post(op)
}

// stay is with for what a session does. On a node that is alone a device without
// commands need not be loaded for that; and while the session has the device for
// itself, nobody but the caller is told anything: there is no need for a goroutine.
func (t *session) stay(op func(a *actor, err error)) {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.actorOf(t.who.Device)
	if !s.cfg.Alone || !a.calm(t) {
		a.enqueue(operation{op, s.cfg.Alone})
		return
	}
	a.running = true
	s.busy++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		if len(a.queue) == 0 {
			a.rest()
		} else {
			go a.run()
		}
	}()
	op(a, nil)
}

// actorOf is the device's actor, made when it is not there; mu is held.
func (s *Service) actorOf(id device.ID) *actor {
	a := s.actors.Get(id)
	if a == nil {
		a = &actor{s: s, id: id}
		s.actors.Put(a)
	}
	return a
}

// quiet reports whether a device has no command that has not ended, as far as this
// node knows; mu is held.
func (s *Service) quiet(id device.ID) bool { return s.table.waiting[id] == 0 }

// ask is with, waited for. When ctx ends first, op may still run.
func ask[T any](ctx context.Context, s *Service, id device.ID, op func(a *actor) (T, error)) (T, error) {
	return await(ctx, func(do func(*actor, error)) { s.with(id, do) }, op)
}

// await waits for an operation that post, with or stay, has run.
func await[T any](ctx context.Context, post func(func(*actor, error)), op func(a *actor) (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	post(func(a *actor, err error) {
		var r result
		if r.err = err; err == nil {
			r.v, r.err = op(a)
		}
		done <- r
	})
	select {
	case r := <-done: // nobody need wait
		return r.v, r.err
	default:
	}
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		var none T
		return none, device.Wrap(device.Unavailable, "the command service did not answer in time", ctx.Err())
	}
}

// do is ask for nothing but the error.
func (s *Service) do(ctx context.Context, id device.ID, op func(a *actor) error) error {
	_, err := ask(ctx, s, id, func(a *actor) (struct{}, error) { return struct{}{}, op(a) })
	return err
}

func unavailable(err error) error {
	return device.Wrap(device.Unavailable, "commands cannot be stored at the moment: try again", err)
}
