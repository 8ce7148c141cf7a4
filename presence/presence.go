package presence

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/device"
)

// Log is where presence is written down.
type Log interface {
	// Write makes events durable, in order: each beginning is first entered into
	// the list of open sessions, each end then taken from it. After an error all
	// of them are written again.
	Write(ctx context.Context, events []device.PresenceEvent) error

	// Restore enters the open sessions again if the list was lost since.
	Restore(ctx context.Context, open func() []device.PresenceEvent) error
}

// Config is what the room may be told.
type Config struct {
	Node   string       // this node's name
	Acting func() error // nil while the node may take sessions; nil: always

	MaxBehind  int           // events not written yet beyond which no session is taken; 50,000
	RetryAfter time.Duration // between attempts to write; 500 ms
	CheckEvery time.Duration // between looks whether the list of sessions is still there; 2 s

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Service is the presence room of one node.
type Service struct {
	cfg     Config
	log     Log
	metrics *metrics

	mu       sync.Mutex
	sessions map[*session]struct{}
	byKey    map[device.Session][]*session // oldest first
	queue    []device.PresenceEvent        // not written yet
	wake     chan struct{}                 // holds one: the queue has grown
	closing  bool
	written  chan struct{} // closed when Run has ended
	ran      bool
}

// session is one stay at a door of this node.
type session struct {
	device.PresenceEvent // its beginning
	end                  func(device.Leaving)
	why                  device.Leaving // the house ends it, for this; "" while it does not
	heard                bool           // its entry came back on the list: what follows there is newer
}

// New makes a Service; Run brings it to life.
func New(cfg Config, log Log) (*Service, error) {
	if cfg.Node == "" {
		return nil, errors.New("presence: Config.Node is empty: it must name the node")
	}
	if cfg.Acting == nil {
		cfg.Acting = func() error { return nil }
	}
	if cfg.MaxBehind == 0 {
		cfg.MaxBehind = 50_000
	}
	if cfg.RetryAfter == 0 {
		cfg.RetryAfter = 500 * time.Millisecond
	}
	if cfg.CheckEvery == 0 {
		cfg.CheckEvery = 2 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		cfg: cfg, log: log, sessions: map[*session]struct{}{}, byKey: map[device.Session][]*session{},
		wake: make(chan struct{}, 1), written: make(chan struct{}),
	}
	var err error
	s.metrics, err = newMetrics(cfg.Registerer)
	return s, err
}

// Connect is adapters.Gate.Connect.
func (s *Service) Connect(who device.Session, end func(device.Leaving)) (func(device.Leaving), error) {
	if who.Device.Device == "" {
		return func(device.Leaving) {}, nil
	}
	if err := s.cfg.Acting(); err != nil {
		return nil, err
	}
	at := time.Now().UTC()
	t := &session{end: end, PresenceEvent: device.PresenceEvent{
		Session: who, ID: ulid.Make().String(), Node: s.cfg.Node, Connected: true, Since: at, At: at,
	}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || len(s.queue) >= s.cfg.MaxBehind {
		return nil, device.Errorf(device.Unavailable, "the server takes no connections now: try again")
	}
	s.sessions[t] = struct{}{}
	s.byKey[who] = append(s.byKey[who], t)
	s.metrics.sessions.WithLabelValues(string(who.Protocol)).Inc()
	s.tell(t.PresenceEvent)
	var once sync.Once
	return func(why device.Leaving) { once.Do(func() { s.leave(t, why) }) }, nil
}

// Attached enters a device that receives its commands through a connection
// which is not the device's own: a gateway's, or one that open mode let in under
// another name. The answer leaves. A device that is here itself is not entered.
func (s *Service) Attached(who device.Session) (left func(device.Leaving)) {
	s.mu.Lock()
	own := len(s.byKey[who]) > 0
	s.mu.Unlock()
	if !own {
		if left, err := s.Connect(who, func(device.Leaving) {}); err == nil {
			return left
		}
	}
	return func(device.Leaving) {}
}

// leave takes a session away; what the house ended it for counts before what
// the door made of it.
func (s *Service) leave(t *session, why device.Leaving) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, t)
	rest := s.byKey[t.Session][:0:0]
	for _, other := range s.byKey[t.Session] {
		if other != t {
			rest = append(rest, other)
		}
	}
	if len(rest) == 0 {
		delete(s.byKey, t.Session)
	} else {
		s.byKey[t.Session] = rest
	}
	if t.why != "" {
		why = t.why
	}
	s.metrics.sessions.WithLabelValues(string(t.Protocol)).Dec()
	s.metrics.ends.WithLabelValues(string(why)).Inc()
	e := t.PresenceEvent
	e.Connected, e.Reason, e.At = false, why, time.Now().UTC()
	s.tell(e)
}

// tell queues an event for the writer; mu is held.
func (s *Service) tell(e device.PresenceEvent) {
	s.queue = append(s.queue, e)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// End ends the sessions of a device on this node, as when it was disabled.
func (s *Service) End(id device.ID, why device.Leaving) {
	var theirs []*session
	s.mu.Lock()
	for t := range s.sessions {
		if t.Device == id {
			theirs = append(theirs, t)
		}
	}
	s.mu.Unlock()
	s.expel(why, theirs)
}

// EndAll ends every session on this node: it has lost its place among the others.
func (s *Service) EndAll(why device.Leaving) {
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.sessions))
	s.mu.Unlock()
	s.expel(why, all)
}

// Moved ends the sessions of this node that are the one whose lease was taken
// on another. One behind a gateway stays: its connection is the gateway's.
func (s *Service) Moved(who device.Session) {
	if who.Via != "" {
		return
	}
	s.mu.Lock()
	old := slices.Clone(s.byKey[who])
	s.mu.Unlock()
	s.expel(device.LeftTakenOver, old)
}

// Heard takes what is read of the list of open sessions, in its order. An
// MQTT session that another node entered after ours of the same name ends ours
// (MQTT 5, section 3.1.4).
func (s *Service) Heard(e device.PresenceEvent, elsewhere bool) {
	if !e.Connected || e.Protocol != device.MQTT {
		return
	}
	var old []*session
	s.mu.Lock()
	for _, t := range s.byKey[e.Session] {
		switch {
		case t.ID == e.ID:
			t.heard = true
		case elsewhere && t.heard:
			old = append(old, t)
		}
	}
	s.mu.Unlock()
	s.expel(device.LeftTakenOver, old)
}

// expel ends sessions, each once.
func (s *Service) expel(why device.Leaving, sessions []*session) {
	s.mu.Lock()
	var ends []func(device.Leaving)
	for _, t := range sessions {
		if _, open := s.sessions[t]; open && t.why == "" {
			t.why = why
			ends = append(ends, t.end)
		}
	}
	s.mu.Unlock()
	for _, end := range ends {
		end(why)
	}
}

// Open is the sessions of this node, each as its beginning.
func (s *Service) Open() []device.PresenceEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]device.PresenceEvent, 0, len(s.sessions))
	for t := range s.sessions {
		all = append(all, t.PresenceEvent)
	}
	return all
}
