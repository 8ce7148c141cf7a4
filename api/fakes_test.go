package api_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
	"github.com/tributary-iot/tributary/storage"
)

const token = "a-token-for-tests"

// house is a server on a free port with everything behind it made up.
type house struct {
	server   *api.Server
	conn     *grpc.ClientConn
	devices  *fakeDevices
	commands *fakeCommands
	store    *fakeStore
	feed     *fakeFeed
	served   chan error
}

func open(t *testing.T, change ...func(*api.Config, *api.Needs)) *house {
	t.Helper()
	h := &house{devices: &fakeDevices{}, commands: &fakeCommands{}, store: &fakeStore{}, feed: &fakeFeed{}, served: make(chan error, 1)}
	cfg := api.Config{Addr: "127.0.0.1:0", Token: token}
	needs := api.Needs{Devices: h.devices, Commands: h.commands, Reader: h.store, Feed: h.feed}
	for _, c := range change {
		c(&cfg, &needs)
	}
	var err error
	if h.server, err = api.Open(cfg, needs); err != nil {
		t.Fatal(err)
	}
	go func() { h.served <- h.server.Serve() }()
	h.conn, err = grpc.NewClient(h.server.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.conn.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.server.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return h
}

// authorized is a context that shows the token, for at most a test's patience.
func authorized(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

func wantCode(t *testing.T, err error, code codes.Code) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("answered %v, want %s", err, code)
	}
}

// fakeDevices keeps names in order; act, when set, is what Get does.
type fakeDevices struct {
	mu   sync.Mutex
	have []device.Registration
	get  func(device.ID) error
}

func (f *fakeDevices) Add(_ context.Context, n device.NewPrincipal) (device.Registration, string, error) {
	id := n.ID
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.find(id) >= 0 {
		return device.Registration{}, "", device.Errorf(device.Conflict, "device %s exists already", id)
	}
	r := device.Registration{ID: id, Kind: n.Kind, For: n.For, Labels: n.Labels, CreatedAt: time.Unix(1, 0), UpdatedAt: time.Unix(2, 0)}
	f.have = append(f.have, r)
	slices.SortFunc(f.have, func(a, b device.Registration) int { return cmp.Compare(a.ID.String(), b.ID.String()) })
	if !n.Key.IsZero() {
		r.Credentials = []device.CredentialInfo{{ID: "c1", Key: n.Key, CreatedAt: time.Unix(1, 0)}}
		return r, "", nil
	}
	return r, "secret of " + id.Device, nil
}

func (f *fakeDevices) AddMany(ctx context.Context, all []device.NewPrincipal) ([]device.Added, error) {
	out := make([]device.Added, len(all))
	for i, n := range all {
		out[i].Registration, out[i].Secret, out[i].Err = f.Add(ctx, n)
	}
	return out, nil
}

func (f *fakeDevices) AddCredential(_ context.Context, id device.ID, key device.KeyHash) (device.CredentialInfo, string, error) {
	info := device.CredentialInfo{ID: "c2", Key: key, CreatedAt: time.Unix(3, 0)}
	_, err := f.with(id, func(i int) { f.have[i].Credentials = append(f.have[i].Credentials, info) })
	return info, "added secret of " + id.Device, err
}

func (f *fakeDevices) RemoveCredential(_ context.Context, id device.ID, credential string) (device.Registration, error) {
	return f.with(id, func(i int) {
		f.have[i].Credentials = slices.DeleteFunc(f.have[i].Credentials, func(c device.CredentialInfo) bool { return c.ID == credential })
	})
}

func (f *fakeDevices) find(id device.ID) int {
	return slices.IndexFunc(f.have, func(r device.Registration) bool { return r.ID == id })
}

func (f *fakeDevices) with(id device.ID, act func(i int)) (device.Registration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.find(id)
	if i < 0 {
		return device.Registration{}, device.Errorf(device.NotFound, "there is no device %s", id)
	}
	r := f.have[i]
	act(i)
	if i < len(f.have) && f.have[i].ID == id {
		r = f.have[i]
	}
	return r, nil
}

func (f *fakeDevices) Get(_ context.Context, id device.ID) (device.Registration, error) {
	if f.get != nil {
		if err := f.get(id); err != nil {
			return device.Registration{}, err
		}
	}
	return f.with(id, func(int) {})
}

func (f *fakeDevices) Label(_ context.Context, id device.ID, set device.Labels, remove []string) (device.Registration, error) {
	return f.with(id, func(i int) {
		labels := device.Labels{}
		maps.Copy(labels, f.have[i].Labels)
		for _, key := range remove {
			delete(labels, key)
		}
		maps.Copy(labels, set)
		f.have[i].Labels = labels
	})
}

func (f *fakeDevices) Disable(_ context.Context, id device.ID) (device.Registration, error) {
	return f.with(id, func(i int) { f.have[i].Disabled = true })
}

func (f *fakeDevices) Enable(_ context.Context, id device.ID) (device.Registration, error) {
	return f.with(id, func(i int) { f.have[i].Disabled = false })
}

func (f *fakeDevices) Remove(_ context.Context, id device.ID) error {
	_, err := f.with(id, func(i int) { f.have = slices.Delete(f.have, i, i+1) })
	return err
}

func (f *fakeDevices) Rotate(_ context.Context, id device.ID, overlap time.Duration) (device.Registration, string, error) {
	r, err := f.with(id, func(int) {})
	return r, "new secret of " + id.Device + " after " + overlap.String(), err
}

func (f *fakeDevices) List(_ context.Context, tenant, after string, limit int) (out []device.Registration, next string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.have {
		if r.ID.Tenant != tenant || r.ID.Device <= after {
			continue
		}
		if len(out) == limit {
			return out, out[limit-1].ID.Device, nil
		}
		out = append(out, r)
	}
	return out, "", nil
}

// fakeCommands is one function a method.
type fakeCommands struct {
	send   func(device.Command) (device.CommandRecord, error)
	get    func(device.ID, string) (device.CommandRecord, error)
	cancel func(device.ID, string) (device.CommandRecord, error)
	watch  func(ctx context.Context, id device.ID, command string, fn func(device.CommandRecord) error) error
}

func (f *fakeCommands) Send(_ context.Context, c device.Command) (device.CommandRecord, error) {
	return f.send(c)
}
func (f *fakeCommands) Get(_ context.Context, id device.ID, cmd string) (device.CommandRecord, error) {
	return f.get(id, cmd)
}
func (f *fakeCommands) Cancel(_ context.Context, id device.ID, cmd string) (device.CommandRecord, error) {
	return f.cancel(id, cmd)
}
func (f *fakeCommands) Watch(ctx context.Context, id device.ID, cmd string, fn func(device.CommandRecord) error) error {
	return f.watch(ctx, id, cmd, fn)
}

// fakeStore answers from slices in the order of the stream; cursors are counts
// of what was answered already.
type fakeStore struct {
	storage.Reader
	messages []device.Stored
	points   []storage.Point
	latest   []storage.LatestValue
	records  []device.CommandRecord
	asked    storage.MessageQuery
	states   []device.CommandState
}

func (f *fakeStore) Messages(_ context.Context, q storage.MessageQuery) (storage.MessagePage, error) {
	f.asked = q
	if q.Limit < 1 || q.Limit > 10_000 {
		return storage.MessagePage{}, errors.New("limit out of bounds")
	}
	end, err := position(q.Cursor, len(f.messages))
	if err != nil {
		return storage.MessagePage{}, err
	}
	start := max(0, end-q.Limit)
	page := storage.MessagePage{Messages: slices.Clone(f.messages[start:end])}
	if start > 0 {
		page.Next = strconv.Itoa(start)
	}
	return page, nil
}

func (f *fakeStore) After(_ context.Context, q storage.AfterQuery) ([]device.Stored, error) {
	if q.Limit < 1 || q.Limit > 10_000 {
		return nil, errors.New("limit out of bounds")
	}
	var page []device.Stored
	for _, m := range f.messages {
		if m.Tenant == q.Tenant && q.After.Before(m.Position) && len(page) < min(q.Limit, 100) {
			page = append(page, m)
		}
	}
	return page, nil
}

func position(cursor string, end int) (int, error) {
	if cursor == "" {
		return end, nil
	}
	n, err := strconv.Atoi(cursor)
	if err != nil || n < 0 || n > end {
		return 0, device.Errorf(device.Invalid, "page token is not valid")
	}
	return n, nil
}

func (f *fakeStore) Points(_ context.Context, q storage.PointQuery) ([]storage.Point, error) {
	var out []storage.Point
	for _, p := range f.points {
		if (q.Until.IsZero() || p.Time.Before(q.Until)) && !p.Time.Before(q.Since) {
			out = append(out, p)
		}
	}
	return out[max(0, len(out)-q.Limit):], nil
}

// Buckets gives each point a bucket of its own.
func (f *fakeStore) Buckets(ctx context.Context, q storage.BucketQuery) ([]storage.Bucket, error) {
	points, err := f.Points(ctx, storage.PointQuery{Since: q.Since, Until: q.Until, Limit: q.Limit})
	var out []storage.Bucket
	for _, p := range points {
		b := storage.Bucket{Start: p.Time.Truncate(q.Step), Count: 1, First: p, Last: p}
		if x, ok := p.Value.Number(); ok {
			b.Numbers, b.Min, b.Max, b.Sum = 1, x, x, x
		}
		out = append(out, b)
	}
	return out, err
}

func (f *fakeStore) Latest(_ context.Context, q storage.LatestQuery) ([]storage.LatestValue, error) {
	var out []storage.LatestValue
	devices := 0
	for _, v := range f.latest {
		if q.Device != "" && v.Device != q.Device || v.Device <= q.After {
			continue
		}
		if len(out) == 0 || out[len(out)-1].Device != v.Device {
			if devices++; q.Device == "" && devices > q.Limit {
				break
			}
		}
		out = append(out, v)
	}
	return out, nil
}

func (f *fakeStore) Commands(_ context.Context, q storage.CommandQuery) (storage.CommandPage, error) {
	f.states = q.States
	start, err := position(q.Cursor, len(f.records))
	if q.Cursor == "" {
		start = 0
	}
	if err != nil {
		return storage.CommandPage{}, err
	}
	end := min(len(f.records), start+q.Limit)
	page := storage.CommandPage{Records: f.records[start:end]}
	if end < len(f.records) {
		page.Next = strconv.Itoa(end)
	}
	return page, nil
}

// fakeFeed holds the stream from first on; follow overrides it.
type fakeFeed struct {
	follow func(ctx context.Context, tenant, name string, after *device.Position, fn func(device.Stored) error) error
}

func (f *fakeFeed) Follow(ctx context.Context, tenant, name string, after *device.Position, fn func(device.Stored) error) error {
	return f.follow(ctx, tenant, name, after, fn)
}

// purged is what presence answers for a position before first.
type purged struct{ first device.Position }

func (p purged) Error() string              { return "position is no longer in the stream" }
func (p purged) FirstKept() device.Position { return p.first }

// stored is message n of a device, at sequence n.
func stored(n int, size int) device.Stored {
	at := time.Unix(1_700_000_000+int64(n), 0).UTC()
	return device.Stored{
		Message: device.Message{
			Tenant: "default", Device: "dev1", Channel: "room", Protocol: device.MQTT, ReceivedAt: at, Payload: make([]byte, size),
			Measurements: []device.Measurement{{Name: "n", Time: at, Value: device.Int(int64(n))}},
		},
		Position: device.Position{Epoch: 1, Seq: uint64(n)}, StoredAt: at,
	}
}

func several(from, to, size int) (out []device.Stored) {
	for n := from; n <= to; n++ {
		out = append(out, stored(n, size))
	}
	return out
}

// numbers reads the n of each message.
func numbers(messages []*pb.Message) (out []int64) {
	for _, m := range messages {
		out = append(out, m.GetMeasurements()[0].GetIntValue())
	}
	return out
}

func upTo(from, to int64) (out []int64) {
	for n := from; n <= to; n++ {
		out = append(out, n)
	}
	return out
}
