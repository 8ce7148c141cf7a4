package batch

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/tributary-iot/tributary/device"
)

// Config is what the room may be told; the zero value of a field stands for its
// default.
type Config struct {
	// Acting answers under which incarnation this node acts now, or an error.
	// Lives reports whether an incarnation of any node does. Nil: the only node.
	Acting func() (incarnation string, err error)
	Lives  func(incarnation string) bool

	// Bystander leaves driving to other nodes.
	Bystander bool

	Keep       time.Duration // an ended batch is forgotten so long after; 30 days
	WriteEvery time.Duration // between writing down what became of devices; 1 s
	Senders    int           // commands of one batch being sent at the same time; 256
	MaxBatches int           // of a tenant, ended ones included; 1,000

	Logger *slog.Logger
}

// Service is the batches of all nodes, as this one knows them.
type Service struct {
	cfg      Config
	store    Store
	commands Commands
	devices  Devices

	ctx    context.Context // ends with Shutdown
	cancel context.CancelFunc
	wg     sync.WaitGroup
	stir   chan struct{} // something changed that the driver may have to do with

	mu      sync.Mutex
	known   map[key]*record
	whole   bool // known is true
	changed chan struct{}
	driving map[key]*runner
}

type key struct{ tenant, id string }

// New makes a Service; Run brings it to life.
func New(cfg Config, store Store, commands Commands, devices Devices) *Service {
	orElse(&cfg.Keep, 30*24*time.Hour)
	orElse(&cfg.WriteEvery, time.Second)
	orElse(&cfg.Senders, 256)
	orElse(&cfg.MaxBatches, 1000)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Acting == nil {
		cfg.Acting = func() (string, error) { return "", nil }
		cfg.Lives = func(string) bool { return false }
	}
	s := &Service{
		cfg: cfg, store: store, commands: commands, devices: devices, stir: make(chan struct{}, 1),
		known: map[key]*record{}, driving: map[key]*runner{}, changed: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func orElse[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Create makes a batch of the devices that are listed, or that a selector finds
// now. Invalid as Batch.Validate says; Conflict for an id that is taken;
// Precondition when no device is meant; Busy for too many batches.
func (s *Service) Create(ctx context.Context, b device.Batch, listed []string) (device.Batch, error) {
	if err := b.Validate(); err != nil {
		return b, err
	}
	selector, err := device.ParseSelector(b.Selector)
	switch {
	case err != nil:
		return b, err
	case (len(listed) > 0) == (b.Selector != ""):
		return b, device.Errorf(device.Invalid, "a batch has either a selector or a list of devices")
	}
	if b.ID == "" {
		b.ID = ulid.Make().String()
	}
	if b.AbortPercent > 0 {
		orElse(&b.AbortAfter, 10)
	}
	k := key{b.Tenant, b.ID}
	if _, err := soon(ctx, s, func() (any, error) { return nil, s.room(k) }); err != nil {
		return b, err
	}
	names, err := s.snapshot(ctx, b.Tenant, selector, listed)
	if err != nil {
		return b, err
	}
	b.Total, b.Progress, b.State, b.CreatedAt = len(names), device.BatchProgress{Unsent: len(names)}, device.BatchRunning, time.Now().Round(0).UTC()
	r := &record{Batch: b, Parts: ulid.Make().String()}
	if err := s.writeParts(ctx, r, names); err != nil {
		return b, err
	}
	if err = s.write(ctx, k, r); device.CodeOf(err) == device.Conflict {
		s.removeParts(r)
		err = device.Wrap(device.Conflict, fmt.Sprintf("batch %s exists already", k.id), err)
	}
	return b, err
}

// writeParts keeps the snapshot, some parts at a time, so that they are committed
// together.
func (s *Service) writeParts(ctx context.Context, r *record, names []string) error {
	group := limited(s.cfg.Senders)
	for n := range r.count() {
		group.Go(func() error {
			some := names[n*PartSize : min((n+1)*PartSize, len(names))]
			_, err := s.put(ctx, key{r.Batch.Tenant, r.Parts}, n, newPart(some), 0)
			return err
		})
	}
	err := group.Wait()
	if err != nil {
		s.removeParts(r)
	}
	return err
}

// removeParts takes away what nobody refers to any more.
func (s *Service) removeParts(r *record) {
	for n := range r.count() {
		if err := s.store.Remove(s.ctx, r.Batch.Tenant, r.Parts, n); err != nil {
			s.cfg.Logger.Warn("a part of a batch that is gone was left behind", "tenant", r.Batch.Tenant, "batch", r.Batch.ID, "error", err)
			return
		}
	}
}

func (s *Service) room(k key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for other := range s.known {
		if other.tenant == k.tenant {
			n++
		}
	}
	switch {
	case !s.whole:
		return errBehind
	case s.known[k] != nil:
		return device.Errorf(device.Conflict, "batch %s exists already", k.id)
	case n >= s.cfg.MaxBatches:
		return device.Errorf(device.Busy, "tenant %s has %d batches, the limit is %d", k.tenant, n, s.cfg.MaxBatches)
	}
	return nil
}

// snapshot lists whom a batch means, once each: devices and gateways that are not
// disabled. Devices that are listed need not be registered.
func (s *Service) snapshot(ctx context.Context, tenant string, selector device.Selector, listed []string) (names []string, err error) {
	if len(listed) > 0 {
		names = slices.Clone(listed)
		for _, name := range names {
			if err := (device.ID{Tenant: tenant, Device: name}).Validate(); err != nil {
				return nil, err
			}
		}
	}
	for cursor, more := "", len(listed) == 0; more; more = cursor != "" {
		var page []device.Registration
		if page, cursor, err = s.devices.List(ctx, tenant, cursor, 1000); err != nil {
			return nil, err
		}
		for _, r := range page {
			if r.Kind != device.KindApplication && !r.Disabled && selector.Matches(r.Labels) {
				names = append(names, r.ID.Device)
			}
		}
		if len(names) > device.MaxBatchDevices {
			break
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	switch n := len(names); {
	case n == 0:
		return nil, device.Errorf(device.Precondition, "no device of tenant %s is meant: `%s` matches none that may connect", tenant, selector)
	case n > device.MaxBatchDevices:
		return nil, device.Errorf(device.Invalid, "more than %d devices are meant, which is the limit", device.MaxBatchDevices)
	}
	return names, nil
}

// Get answers a batch; NotFound when there is none.
func (s *Service) Get(ctx context.Context, tenant, id string) (device.Batch, error) {
	r, err := soon(ctx, s, func() (record, error) { return s.find(key{tenant, id}) })
	return r.Batch, err
}

func (s *Service) find(k key) (record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.known[k]; r != nil {
		return *r, nil
	}
	if !s.whole {
		return record{}, errBehind
	}
	return record{}, device.Errorf(device.NotFound, "there is no batch %s", k.id)
}

// List answers a tenant's batches after an id, newest first by their time, at most
// limit of them.
func (s *Service) List(ctx context.Context, tenant, after string, limit int) ([]device.Batch, error) {
	return soon(ctx, s, func() ([]device.Batch, error) { return s.list(tenant, after, limit) })
}

func (s *Service) list(tenant, after string, limit int) ([]device.Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.whole {
		return nil, errBehind
	}
	var all []device.Batch
	for k, r := range s.known {
		if k.tenant == tenant {
			all = append(all, r.Batch)
		}
	}
	slices.SortFunc(all, func(a, b device.Batch) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	if after != "" {
		at := slices.IndexFunc(all, func(b device.Batch) bool { return b.ID == after })
		if at < 0 {
			return nil, device.Errorf(device.Invalid, "batch %s, after which to go on, is no longer there; begin anew", after)
		}
		all = all[at+1:]
	}
	return all[:min(limit, len(all))], nil
}

// Pause keeps a running batch from sending; Resume lets it go on. Each is
// idempotent, and Precondition once nothing more would be sent.
func (s *Service) Pause(ctx context.Context, tenant, id string) (device.Batch, error) {
	return s.turn(ctx, key{tenant, id}, device.BatchPaused, "")
}

// Resume is the reverse of Pause.
func (s *Service) Resume(ctx context.Context, tenant, id string) (device.Batch, error) {
	return s.turn(ctx, key{tenant, id}, device.BatchRunning, "")
}

// Cancel ends a batch: nothing more is sent, and what its devices do not have yet is
// withdrawn. It is idempotent.
func (s *Service) Cancel(ctx context.Context, tenant, id, reason string) (device.Batch, error) {
	return s.turn(ctx, key{tenant, id}, device.BatchCancelled, reason)
}

// turn changes the state by compare-and-set, whoever drives.
func (s *Service) turn(ctx context.Context, k key, to device.BatchState, reason string) (device.Batch, error) {
	for range 16 {
		r, err := soon(ctx, s, func() (record, error) { return s.find(k) })
		switch state := r.Batch.State; {
		case err != nil:
			return device.Batch{}, err
		case state == to:
			return r.Batch, nil
		case state.Stopped():
			return r.Batch, device.Errorf(device.Precondition, "batch %s is %s: nothing more is sent", k.id, state)
		}
		r.Batch.State, r.Batch.Reason = to, reason
		err = s.write(ctx, k, &r)
		if device.CodeOf(err) != device.Conflict {
			return r.Batch, err
		}
		if err := s.refresh(ctx, k); err != nil {
			return device.Batch{}, err
		}
	}
	return device.Batch{}, device.Errorf(device.Busy, "batch %s changes all the time: try again", k.id)
}

// refresh reads one record anew.
func (s *Service) refresh(ctx context.Context, k key) error {
	value, rev, err := s.store.Get(ctx, k.tenant, k.id, Record)
	if err == nil {
		s.heard(k, value, rev)
	}
	return err
}

// write replaces the record by compare-and-set, and has this node know it at once.
func (s *Service) write(ctx context.Context, k key, r *record) error {
	rev, err := s.put(ctx, k, Record, r, r.rev)
	if err != nil {
		return err
	}
	r.rev = rev
	value, err := json.Marshal(r)
	if err == nil {
		s.heard(k, value, rev)
	}
	return err
}

func (s *Service) put(ctx context.Context, k key, n int, v any, rev uint64) (uint64, error) {
	value, err := json.Marshal(v)
	if err != nil {
		return 0, err
	}
	return s.store.Put(ctx, k.tenant, k.id, n, value, rev)
}

// Watch calls fn with the batch as it stands and after every change, and returns
// once it has ended, or with fn's error, or when ctx ends.
func (s *Service) Watch(ctx context.Context, tenant, id string, fn func(device.Batch) error) error {
	k, seen := key{tenant, id}, uint64(0)
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		r, err := soon(ctx, s, func() (record, error) { return s.find(k) })
		if err != nil {
			return err
		}
		if r.rev != seen {
			seen = r.rev
			if err := fn(r.Batch); err != nil || !r.Batch.EndedAt.IsZero() {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
