package batch_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/batch"
	"github.com/tributary-iot/tributary/device"
)

// memory is a Store; outage, when set, is what every call answers.
type memory struct {
	mu      sync.Mutex
	rev     uint64
	values  map[string]value
	changed chan struct{}
	outage  error
}

type value struct {
	tenant, name string
	part         int
	body         []byte // nil: removed
	rev          uint64
}

func newMemory() *memory {
	return &memory{values: map[string]value{}, changed: make(chan struct{})}
}

func keyOf(tenant, name string, part int) string { return fmt.Sprint(tenant, "/", name, "/", part) }

func (m *memory) Put(_ context.Context, tenant, name string, part int, body []byte, revision uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := keyOf(tenant, name, part)
	if m.outage != nil {
		return 0, m.outage
	}
	if old := m.values[k]; old.rev != revision && (old.body != nil || revision != 0) {
		return 0, device.Errorf(device.Conflict, "it is at %d, not %d", old.rev, revision)
	}
	m.set(value{tenant, name, part, slices.Clone(body), 0})
	return m.rev, nil
}

func (m *memory) set(v value) {
	m.rev++
	v.rev = m.rev
	m.values[keyOf(v.tenant, v.name, v.part)] = v
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *memory) Get(_ context.Context, tenant, name string, part int) ([]byte, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.values[keyOf(tenant, name, part)]
	if v.body == nil {
		return nil, 0, device.Errorf(device.NotFound, "there is no such batch")
	}
	return v.body, v.rev, m.outage
}

func (m *memory) Remove(_ context.Context, tenant, name string, part int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set(value{tenant, name, part, nil, 0})
	return nil
}

// follow calls fn with what is wanted in order, and again with what is new.
func (m *memory) follow(ctx context.Context, want func(value) bool, ready func(), fn func(value) error) error {
	seen := uint64(0)
	for {
		m.mu.Lock()
		var news []value
		for _, v := range m.values {
			if v.rev > seen && want(v) {
				news = append(news, v)
			}
		}
		seen = m.rev
		changed := m.changed
		m.mu.Unlock()
		slices.SortFunc(news, func(a, b value) int { return int(a.rev) - int(b.rev) })
		for _, v := range news {
			if err := fn(v); err != nil {
				return err
			}
		}
		ready()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func (m *memory) Watch(ctx context.Context, ready func(), changed func(tenant, id string, value []byte, revision uint64)) error {
	return m.follow(ctx, func(v value) bool { return v.part == batch.Record }, sync.OnceFunc(ready), func(v value) error {
		changed(v.tenant, v.name, v.body, v.rev)
		return nil
	})
}

func (m *memory) Follow(ctx context.Context, tenant, id, parts string, changed func(part int, value []byte) error) error {
	return m.follow(ctx, func(v value) bool { return v.tenant == tenant && (v.name == id || v.name == parts) }, func() {}, func(v value) error {
		return changed(v.part, v.body)
	})
}

func (m *memory) len() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.values {
		if v.body != nil {
			n++
		}
	}
	return n
}

// fleet is a command room whose devices do at once, or after a while, what their
// names say: "ok-3", "fail-3", "reject-3", "silent-3" (never), "slow-3" (after 10 s),
// "refused-3" (cannot be sent to).
type fleet struct {
	mu      sync.Mutex
	sent    map[string]*device.CommandRecord // by device and key
	byID    map[string]*device.CommandRecord
	times   []time.Time
	most    int // commands not ended at the same time
	open    int
	heeds   map[*func(device.StoredEvent)]bool
	repeats int
	outage  bool
}

func newFleet() *fleet {
	return &fleet{sent: map[string]*device.CommandRecord{}, byID: map[string]*device.CommandRecord{}, heeds: map[*func(device.StoredEvent)]bool{}}
}

func (f *fleet) Send(_ context.Context, c device.Command) (device.CommandRecord, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outage {
		return device.CommandRecord{}, device.Errorf(device.Unavailable, "not now")
	}
	kind, _, _ := strings.Cut(c.Device, "-")
	if kind == "refused" {
		return device.CommandRecord{}, device.Errorf(device.Busy, "too many wait for it")
	}
	if old := f.sent[c.Device+c.Key]; old != nil {
		f.repeats++
		return *old, nil
	}
	c.ID = fmt.Sprint("C", len(f.sent))
	r := &device.CommandRecord{Command: c, Events: []device.CommandEvent{{Command: c.ID, State: device.StateQueued}}}
	f.sent[c.Device+c.Key], f.byID[c.ID] = r, r
	f.times = append(f.times, time.Now())
	f.open++
	f.most = max(f.most, f.open)
	answer := *r
	end := map[string]device.CommandState{"ok": device.StateSucceeded, "slow": device.StateSucceeded, "fail": device.StateFailed, "reject": device.StateRejected}[kind]
	if kind == "slow" {
		time.AfterFunc(10*time.Second, func() { f.end(r, end) })
	} else if end != 0 {
		go f.end(r, end)
	}
	return answer, nil
}

// SendNew refuses to send what its caller should have known was sent.
func (f *fleet) SendNew(ctx context.Context, c device.Command) (device.CommandRecord, error) {
	f.mu.Lock()
	old := f.sent[c.Device+c.Key]
	f.mu.Unlock()
	if old != nil {
		return device.CommandRecord{}, device.Errorf(device.Invalid, "sent as new, and was sent before")
	}
	return f.Send(ctx, c)
}

func (f *fleet) end(r *device.CommandRecord, state device.CommandState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endLocked(r, state)
}

func (f *fleet) endLocked(r *device.CommandRecord, state device.CommandState) {
	if last := r.Last().State; last.Terminal(false) {
		return
	}
	e := device.CommandEvent{Command: r.Command.ID, State: state}
	if state == device.StateSucceeded {
		e.Status = 200
	}
	r.Events = append(r.Events[:1:1], e)
	f.open--
	for heed := range f.heeds {
		(*heed)(device.StoredEvent{CommandEvent: e})
	}
}

func (f *fleet) ByKey(_ context.Context, id device.ID, key string) (device.CommandRecord, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.sent[id.Device+key]; r != nil {
		return *r, nil
	}
	return device.CommandRecord{}, device.Errorf(device.NotFound, "there is none")
}

func (f *fleet) find(id string) *device.CommandRecord { return f.byID[id] }

func (f *fleet) Get(_ context.Context, _ device.ID, id string) (device.CommandRecord, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.find(id); r != nil {
		return *r, nil
	}
	return device.CommandRecord{}, device.Errorf(device.NotFound, "there is none")
}

func (f *fleet) Cancel(_ context.Context, _ device.ID, id string) (device.CommandRecord, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.find(id)
	if r == nil {
		return device.CommandRecord{}, errors.New("there is none")
	}
	if strings.HasPrefix(r.Command.Device, "slow") {
		return *r, device.Errorf(device.Precondition, "it was sent")
	}
	f.endLocked(r, device.StateCancelled)
	return *r, nil
}

func (f *fleet) Heed(fn func(device.StoredEvent)) func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heeds[&fn] = true
	return func() { f.mu.Lock(); defer f.mu.Unlock(); delete(f.heeds, &fn) }
}

// registered is a registry of these devices.
type registered []device.Registration

func (r registered) List(_ context.Context, tenant, cursor string, limit int) (page []device.Registration, next string, _ error) {
	for _, reg := range r {
		if reg.ID.Tenant != tenant || reg.ID.Device <= cursor {
			continue
		}
		if len(page) == limit {
			return page, page[limit-1].ID.Device, nil
		}
		page = append(page, reg)
	}
	return page, "", nil
}

// names are n devices of a kind.
func names(kind string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("%s-%05d", kind, i))
	}
	return all
}

// open starts a node; it is stopped with the test, or by what is answered.
func open(t *testing.T, m *memory, f *fleet, change ...func(*batch.Config)) (*batch.Service, func()) {
	t.Helper()
	cfg := batch.Config{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, c := range change {
		c(&cfg)
	}
	s := batch.New(cfg, m, f, registered{})
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(t.Context()) }()
	stop := sync.OnceFunc(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		<-done
	})
	t.Cleanup(stop)
	return s, stop
}

// fail has every command fail to be sent, or no longer.
func (f *fleet) fail(outage bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.outage = outage
}

func (f *fleet) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.times)
}

// took is the time between the first and the last command.
func (f *fleet) took() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.times[len(f.times)-1].Sub(f.times[0])
}
