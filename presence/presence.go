package presence

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/keyed"
)

// Log is where presence is written down.
type Log interface {
	// Write makes events durable, in order: each beginning is first entered into
	// the list of open sessions, each end then taken from it. After an error all
	// of them are written again. It keeps none of them.
	Write(ctx context.Context, events []device.PresenceEvent) error

	// Restore looks after the list of open sessions: it enters them again if the list
	// was lost since. open is what is to be on it. It is not called during Write.
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

	mu      sync.Mutex
	open    *keyed.Map[device.Session, Stay] // the newest of each session
	order   []*Stay                          // all that are open and some that are over, as they were entered
	last    uint64                           // the newest's place among all there were
	over    int                              // how many of order are
	queue   []happening                      // not written yet
	hand    []happening                      // being written
	wake    chan struct{}                    // holds one: the queue has grown
	closing bool
	written chan struct{} // closed when Run has ended
	ran     bool
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
		cfg: cfg, log: log, open: keyed.New(func(t *Stay) device.Session { return t.who }),
		wake: make(chan struct{}, 1), written: make(chan struct{}),
	}
	var err error
	s.metrics, err = newMetrics(cfg.Registerer)
	return s, err
}

// Connect enters a session, as adapters.Gate.Connect says. end is called at most
// once. A session of nobody in particular is not entered: the answer is nil, which
// may be left and ended like any other.
func (s *Service) Connect(who device.Session, end func(device.Leaving)) (*Stay, error) {
	if who.Device.Device == "" {
		return nil, nil
	}
	if err := s.cfg.Acting(); err != nil {
		return nil, err
	}
	t := &Stay{s: s, who: who, id: ulid.Make(), since: time.Now().UnixNano(), end: end}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || len(s.queue) >= s.cfg.MaxBehind {
		return nil, device.Errorf(device.Unavailable, "the server takes no connections now: try again")
	}
	t.older = s.open.Get(who)
	s.open.Put(t)
	s.last++
	t.place, s.order = s.last, append(s.order, t)
	s.metrics.sessions.WithLabelValues(string(who.Protocol)).Inc()
	s.tell(happening{stay: t, at: t.since})
	return t, nil
}

// Attached enters a device that receives its commands through a connection
// which is not the device's own: a gateway's, or one that open mode let in under
// another name. A device that is here itself is not entered: the answer is nil.
func (s *Service) Attached(who device.Session) *Stay {
	s.mu.Lock()
	own := s.open.Get(who) != nil
	s.mu.Unlock()
	if own {
		return nil
	}
	t, _ := s.Connect(who, func(device.Leaving) {}) // not to be shown ends nothing
	return t
}

// happening is a session's beginning or end, for the writer.
type happening struct {
	stay  *Stay
	at    int64          // Unix time, in nanoseconds
	ended device.Leaving // ""; it has begun
}

func (h *happening) event() device.PresenceEvent {
	e := h.stay.beginning()
	if h.ended != "" {
		e.Connected, e.Reason, e.At = false, h.ended, time.Unix(0, h.at).UTC()
	}
	return e
}

// tell queues what happened for the writer; mu is held.
func (s *Service) tell(h happening) {
	s.queue = append(s.queue, h)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// all answers the stays that are wanted; mu is held.
func (s *Service) all(wanted func(*Stay) bool) (found []*Stay) {
	for newest := range s.open.All() {
		for t := newest; t != nil; t = t.older {
			if wanted(t) {
				found = append(found, t)
			}
		}
	}
	return found
}

// End ends the sessions of a device on this node, as when it was disabled.
func (s *Service) End(id device.ID, why device.Leaving) {
	s.mu.Lock()
	theirs := s.all(func(t *Stay) bool { return t.who.Device == id })
	s.mu.Unlock()
	s.expel(why, theirs)
}

// EndAll ends every session on this node: it has lost its place among the others.
func (s *Service) EndAll(why device.Leaving) {
	s.mu.Lock()
	all := s.all(func(*Stay) bool { return true })
	s.mu.Unlock()
	s.expel(why, all)
}

// Moved ends the sessions of this node that are the one whose lease was taken
// on another. One that began after that was attached is newer, and stays. So does one
// behind a gateway: its connection is the gateway's.
func (s *Service) Moved(who device.Session, attached time.Time) {
	if who.Via != "" {
		return
	}
	var old []*Stay
	s.mu.Lock()
	for t := s.open.Get(who); t != nil; t = t.older {
		if t.since <= attached.UnixNano() {
			old = append(old, t)
		}
	}
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
	id, err := ulid.ParseStrict(e.ID)
	if err != nil {
		return // not written by us
	}
	var old []*Stay
	s.mu.Lock()
	for t := s.open.Get(e.Session); t != nil; t = t.older {
		switch {
		case t.id == id:
			t.heard = true
		case elsewhere && t.heard:
			old = append(old, t)
		}
	}
	s.mu.Unlock()
	s.expel(device.LeftTakenOver, old)
}

// Here is how many sessions are open on this node, several of one name counted once.
func (s *Service) Here() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open.Len()
}
