// Package adaptertest lets an adapter be tested alone: Gate is the whole house
// in memory, under the test's control, and the contract checker proves that an
// adapter keeps what package adapters asks of it.
package adaptertest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// Gate is an in-memory adapters.Gate. Its zero value lets anonymous peers in,
// stores at once and has no commands. Set the fields before the adapter starts.
type Gate struct {
	// Secrets maps a user to its secret; the user's ID is what ParseUser reads.
	Secrets map[device.ID]string
	// Kinds says what the users are; those left out are devices.
	Kinds map[device.ID]device.PrincipalKind
	// Gap, when set, is told with every message of a Subscribe.
	Gap *adapters.Gap
	// RefuseAnonymous turns peers without a credential away.
	RefuseAnonymous bool
	// AuthErr, when set, is answered to every Authenticate.
	AuthErr error
	// OnSubmit, when set, decides about every message in place of storing it at
	// once: it may keep done and call it later, or answer an error itself.
	OnSubmit func(m *device.Message, done func(error)) error
	// OnRespond, when set, decides what done of a Respond is told.
	OnRespond func(r device.Response) error

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced at every change
	stored    []device.Message
	refused   []adapters.Refusal
	responses []device.Response
	settled   []Settled
	queues    map[device.ID][]device.Delivery
	entered   []*Entered
	consumed  []device.OutcomeKind
	records   map[string]*device.CommandRecord
	feeds     []*feed

	subscriptions map[string]*shared
	sessions      map[device.ID][]*attachment // oldest first; the last holds the lease
}

// Settled is one call of Attachment.Settle.
type Settled struct {
	Command string
	Attempt int
	Outcome device.Outcome
}

// Authenticate implements adapters.Gate.
func (g *Gate) Authenticate(_ context.Context, c device.Credential) (device.Principal, error) {
	if g.AuthErr != nil {
		return device.Principal{}, g.AuthErr
	}
	if c.Anonymous {
		if g.RefuseAnonymous {
			return device.Principal{}, device.Errorf(device.Unauthenticated, "a credential is needed")
		}
		id := device.ID{Tenant: device.DefaultTenant, Device: c.Hint}
		if id.Validate() != nil {
			id.Device = ""
		}
		return device.Principal{ID: id, Kind: device.KindDevice, Open: true}, nil
	}
	id, err := device.ParseUser(c.User)
	if secret, known := g.Secrets[id]; err != nil || !known || secret != c.Secret {
		return device.Principal{}, device.Errorf(device.Unauthenticated, "unknown device or wrong secret")
	}
	kind := device.KindDevice
	if k, said := g.Kinds[id]; said {
		kind = k
	}
	return device.Principal{ID: id, Kind: kind}, nil
}

// Entered is one call of Connect and what came of it.
type Entered struct {
	device.Session
	Principal device.Principal
	End       func(device.Leaving)
	Left      device.Leaving // "" while the session lasts
}

// Connect implements adapters.Gate.
func (g *Gate) Connect(p device.Principal, s device.Session, end func(device.Leaving)) (func(device.Leaving), error) {
	e := &Entered{Session: s, Principal: p, End: end}
	g.update(func() { g.entered = append(g.entered, e) })
	return func(why device.Leaving) { g.update(func() { e.Left = why }) }, nil
}

// Entered is every session entered so far, oldest first.
func (g *Gate) Entered() (all []Entered) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.entered {
		all = append(all, *e)
	}
	return all
}

// Submit implements adapters.Gate.
func (g *Gate) Submit(m *device.Message, done func(error)) error {
	g.mu.Lock()
	decide := g.OnSubmit // a rule of the checker sets it while the adapter is up
	g.mu.Unlock()
	if decide != nil {
		return decide(m, done)
	}
	if err := m.Validate(); err != nil {
		return err
	}
	g.Store(m)
	go done(nil)
	return nil
}

// Store records m as stored; OnSubmit functions call it when they say yes.
func (g *Gate) Store(m *device.Message) {
	g.update(func() { g.stored = append(g.stored, *m) })
}

// Respond implements adapters.Gate.
func (g *Gate) Respond(r device.Response, done func(error)) {
	var err error
	if g.OnRespond != nil {
		err = g.OnRespond(r)
	}
	if err == nil {
		g.update(func() {
			g.responses = append(g.responses, r)
			e := device.CommandEvent{Command: r.Command, State: device.StateSucceeded, At: time.Now(), Status: r.Status, Response: r.Payload, ContentType: r.ContentType}
			if r.Status >= 300 {
				e.State = device.StateFailed
			}
			g.transition(e)
		})
	}
	go done(err)
}

// Refused implements adapters.Gate.
func (g *Gate) Refused(r adapters.Refusal) {
	g.update(func() { g.refused = append(g.refused, r) })
}

// Attach implements adapters.Gate.
func (g *Gate) Attach(_ context.Context, s device.Session, offer func(device.Delivery), lost func()) (adapters.Attachment, error) {
	a := &attachment{gate: g, session: s, offer: offer, lost: lost, held: map[string]device.Delivery{}}
	a.wake = sync.NewCond(&a.wakeMu)
	g.update(func() {
		if g.sessions == nil {
			g.sessions = map[device.ID][]*attachment{}
		}
		stack := g.sessions[s.Device]
		if n := len(stack); n > 0 {
			stack[n-1].displaced()
		}
		g.sessions[s.Device] = append(stack, a)
	})
	go a.run()
	return a, nil
}

// Send queues a command for its device, for whichever session holds the lease.
func (g *Gate) Send(c device.Command) {
	g.update(func() { g.enqueue(c.ForDevice(), device.Delivery{Command: c, Attempt: 1}) })
}

func (g *Gate) enqueue(id device.ID, d device.Delivery) {
	if g.queues == nil {
		g.queues = map[device.ID][]device.Delivery{}
	}
	g.queues[id] = append(g.queues[id], d)
}

// Stored is every message kept so far.
func (g *Gate) Stored() []device.Message { return snapshot(g, &g.stored) }

// Refusals is every Refused so far.
func (g *Gate) Refusals() []adapters.Refusal { return snapshot(g, &g.refused) }

// Responses is every answer kept so far.
func (g *Gate) Responses() []device.Response { return snapshot(g, &g.responses) }

// SettledAll is every Settle so far that the session still had a right to.
func (g *Gate) SettledAll() []Settled { return snapshot(g, &g.settled) }

// Sessions is how many sessions of the device are attached.
func (g *Gate) Sessions(id device.ID) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.sessions[id])
}

// Queued is how many commands of the device wait for a session.
func (g *Gate) Queued(id device.ID) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.queues[id])
}

// Until waits until ok answers true, looking again after every change of the
// gate. It answers false when the time is up.
func (g *Gate) Until(limit time.Duration, ok func() bool) bool {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		g.mu.Lock()
		if g.changed == nil {
			g.changed = make(chan struct{})
		}
		changed := g.changed
		g.mu.Unlock()
		if ok() {
			return true
		}
		select {
		case <-changed:
		case <-timeout.C:
			return ok()
		}
	}
}

// update runs f under the lock and wakes whoever waits for a change.
func (g *Gate) update(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
	for _, f := range g.feeds {
		f.signal()
	}
	for _, stack := range g.sessions {
		if n := len(stack); n > 0 {
			stack[n-1].signal()
		}
	}
}

func snapshot[T any](g *Gate, list *[]T) []T {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(*list)
}
