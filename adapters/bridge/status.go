package bridge

import (
	"sync"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// State is how a link stands.
type State string

// The states of a link.
const (
	Connecting State = "connecting" // for the first time, or again after Err
	Up         State = "up"
	Down       State = "down" // until RetryAt
	Stopped    State = "stopped"
)

// Status is how a link is, and what passed it since the process started.
type Status struct {
	Name, Tenant string
	URL          string // without a password, which it may not hold
	State        State
	Err          string // why it is not up, or "" when nothing went wrong yet
	Since        time.Time
	RetryAt      time.Time // of Down
	Receive      []string
	Commands     string

	Received, Accepted, Rejected, Released uint64 // messages
	InFlight                               int    // not answered yet
	Devices                                int    // whose commands it takes out
	CommandsOut, Answers                   uint64
}

// standing is the part of a Status that changes by turns.
type standing struct {
	mu      sync.Mutex
	state   State
	err     string
	since   time.Time
	retryAt time.Time
}

func (s *standing) set(state State, err error, retryAt time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state != s.state {
		s.since = time.Now()
	}
	s.state, s.retryAt = state, retryAt
	switch {
	case err != nil:
		s.err = err.Error()
	case state == Up:
		s.err = ""
	}
}

// status is the link as it is now.
func (l *link) status() Status {
	l.standing.mu.Lock()
	s := Status{
		Name: l.Name, Tenant: l.Tenant, URL: l.URL, Receive: l.Receive, Commands: l.Commands,
		State: l.standing.state, Err: l.standing.err, Since: l.standing.since, RetryAt: l.standing.retryAt,
	}
	l.standing.mu.Unlock()
	c := l.counters
	s.Received, s.Accepted, s.Rejected, s.Released = c.get(received), c.get(accepted), c.get(rejected), c.get(released)
	s.CommandsOut, s.Answers, s.InFlight = c.get(commandsOut), c.get(answers), int(c.flying.Load())
	s.Devices = l.fleet.size()
	return s
}

// Status answers every link, in the order of the configuration.
func (b *Bridge) Status() []Status {
	all := make([]Status, 0, len(b.links))
	for _, l := range b.links {
		all = append(all, l.status())
	}
	return all
}

// id names the link's gateway: who sent what no device was found for.
func (l *link) id() device.ID { return device.ID{Tenant: l.Tenant, Device: l.Name} }
