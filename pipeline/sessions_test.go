package pipeline

import (
	"context"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
)

func joinedSessions(t testing.TB, b *Belt) *Sessions {
	t.Helper()
	n, err := b.Join(t.Context(), NodeOptions{Identity: "x"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopWithin(t, n.Leave) })
	return b.Sessions(n)
}

func TestSessionRecords(t *testing.T) {
	b := inside(t, t.TempDir(), Options{MaxSessions: 3})
	s := joinedSessions(t, b)
	key := device.SessionKey{Principal: device.ID{Tenant: "default", Device: "d.*"}, Client: "c > ü"}
	node, err := s.Incarnation()
	if err != nil || !s.Lives(node) || s.Lives("another") || !s.Elder() {
		t.Fatalf("%q, %v", node, err)
	}
	if r, rev, err := s.Load(t.Context(), key); r != nil || rev != 0 || err != nil {
		t.Fatalf("%+v, %d, %v", r, rev, err)
	}
	rec := &device.SessionRecord{Key: key, Node: node, Expiry: time.Hour, Subscriptions: []device.Subscription{{Filter: "a/#", QoS: 2}}, Topics: device.Position{Epoch: 1, Seq: 2}}
	rev, err := s.Save(t.Context(), rec, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Save(t.Context(), rec, 0); device.CodeOf(err) != device.Conflict {
		t.Errorf("saved over another: %v", err)
	}
	if r, at, err := s.Load(t.Context(), key); err != nil || at != rev || !reflect.DeepEqual(r, rec) {
		t.Errorf("%+v, %d, %v", r, at, err)
	}
	rec.Node, rec.Left = "", time.Now().UTC().Truncate(time.Second)
	if rev, err = s.Save(t.Context(), rec, rev); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), key, rev+1); device.CodeOf(err) != device.Conflict {
		t.Errorf("removed another: %v", err)
	}
	if err := s.Remove(t.Context(), key, rev); err != nil {
		t.Fatal(err)
	}
	r, rev, err := s.Load(t.Context(), key)
	if r != nil || err != nil {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := s.Save(t.Context(), rec, rev); err != nil {
		t.Errorf("after it was removed: %v", err)
	}
	for i := range 5 {
		rec.Key.Client = string(rune('a' + i))
		if _, err = s.Save(t.Context(), rec, 0); err != nil {
			break
		}
	}
	if device.CodeOf(err) != device.Busy {
		t.Errorf("more sessions than may be: %v", err)
	}
}

// TestSessionsAreHeardOf: what there was, then every change, in order.
func TestSessionsAreHeardOf(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	s := joinedSessions(t, b)
	record := func(client string) *device.SessionRecord {
		return &device.SessionRecord{Key: device.SessionKey{Principal: device.ID{Tenant: "t", Device: "d"}, Client: client}, Expiry: device.Forever}
	}
	rev, err := s.Save(t.Context(), record("one"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Save(t.Context(), record("two"), 0); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	known := map[string]bool{}
	ready := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- s.Follow(ctx, func() { close(ready) }, func(key device.SessionKey, r *device.SessionRecord) {
			mu.Lock()
			defer mu.Unlock()
			known[key.Client] = r != nil
		})
	}()
	<-ready
	is := func(client string, want bool) bool {
		mu.Lock()
		defer mu.Unlock()
		got, heard := known[client]
		return heard && got == want
	}
	if !is("one", true) || !is("two", true) {
		t.Errorf("at first: %v", known)
	}
	if err := s.Remove(t.Context(), record("one").Key, rev); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the removal is heard of", func() bool { return is("one", false) })
	cancel()
	<-ended
	empty := make(chan struct{})
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	fresh := joinedSessions(t, inside(t, t.TempDir(), Options{}))
	go func() {
		_ = fresh.Follow(ctx, func() { close(empty) }, func(device.SessionKey, *device.SessionRecord) {})
	}()
	<-empty
}

// TestAskingForASession: the asker waits until the holder has let go.
func TestAskingForASession(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	s := joinedSessions(t, b)
	key := device.SessionKey{Principal: device.ID{Tenant: "t", Device: "d"}, Client: "c"}
	var mu sync.Mutex
	gone := false
	stop, err := s.Answer(func(got device.SessionKey) {
		mu.Lock()
		defer mu.Unlock()
		gone = got == key
	})
	if err != nil {
		t.Fatal(err)
	}
	node, _ := s.Incarnation()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Ask(ctx, node, key); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	if !gone {
		t.Error("answered before the session was given up")
	}
	mu.Unlock()
	stop()
	if err := s.Ask(ctx, "nobody", key); device.CodeOf(err) != device.Unavailable {
		t.Errorf("nobody: %v", err)
	}
}
