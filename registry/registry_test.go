package registry_test

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/registry"
	"github.com/tributary-iot/tributary/registry/registrytest"
)

// fixture is a running registry on a store in memory.
type fixture struct {
	store   *registrytest.Memory
	reg     *registry.Registry
	secrets map[string]string
}

func newFixture(t *testing.T, change ...func(*registry.Config)) *fixture {
	t.Helper()
	f := &fixture{store: new(registrytest.Memory), secrets: map[string]string{}}
	f.reg = f.node(t, change...)
	return f
}

// node starts one more registry on the fixture's store, as another node would.
func (f *fixture) node(t *testing.T, change ...func(*registry.Config)) *registry.Registry {
	t.Helper()
	cfg := registry.Config{Store: f.store, Pepper: make([]byte, registry.PepperBytes)}
	for _, c := range change {
		c(&cfg)
	}
	reg, err := registry.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- reg.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run answered %v", err)
		}
	})
	eventually(t, "the registry watches", reg.Watching)
	return reg
}

func (f *fixture) add(t *testing.T, user string) string {
	t.Helper()
	_, secret, err := f.reg.Add(t.Context(), id(t, user))
	if err != nil {
		t.Fatalf("add %s: %v", user, err)
	}
	f.secrets[user] = secret
	return secret
}

// settle waits until the watch has told everything written so far.
func (f *fixture) settle(t *testing.T) {
	t.Helper()
	mark := device.ID{Tenant: "settle", Device: "mark"}
	told := make(chan struct{}, 2) // for the unreadable record, and for its end
	f.reg.OnRevoke(func(id device.ID) {
		if id == mark {
			told <- struct{}{}
		}
	})
	rev, err := f.store.Create(t.Context(), mark, []byte("not a record"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.store.Delete(t.Context(), mark, rev); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the watch told everything", func() bool { return len(told) == 2 })
}

func TestRevocationReachesOtherNodes(t *testing.T) {
	for _, c := range []struct {
		name   string
		revoke func(context.Context, *registry.Registry, device.ID) error
		hook   bool
	}{
		{"disable", func(ctx context.Context, r *registry.Registry, id device.ID) error {
			_, err := r.Disable(ctx, id)
			return err
		}, true},
		{"remove", func(ctx context.Context, r *registry.Registry, id device.ID) error { return r.Remove(ctx, id) }, true},
		{"rotate", func(ctx context.Context, r *registry.Registry, id device.ID) error {
			_, _, err := r.Rotate(ctx, id)
			return err
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			other := f.node(t)
			revoked := make(chan device.ID, 10)
			other.OnRevoke(func(id device.ID) { revoked <- id })
			cred := device.Credential{User: "dev1", Secret: f.add(t, "dev1@default")}
			eventually(t, "the other node lets the device in", func() bool {
				_, err := other.Authenticate(t.Context(), cred)
				return err == nil
			})
			if err := c.revoke(t.Context(), f.reg, id(t, "dev1@default")); err != nil {
				t.Fatal(err)
			}
			if _, err := f.reg.Authenticate(t.Context(), cred); err == nil {
				t.Error("the same node still lets the device in")
			}
			within(t, time.Second, "the other node refuses the device", func() bool {
				_, err := other.Authenticate(t.Context(), cred)
				return device.CodeOf(err) == device.Unauthenticated && err != nil
			})
			if c.hook {
				select {
				case got := <-revoked:
					if got != id(t, "dev1@default") {
						t.Errorf("revoked %s", got)
					}
				case <-time.After(15 * time.Second):
					t.Error("the hook was not called")
				}
			} else if len(revoked) > 0 {
				t.Error("a rotation ended the sessions")
			}
		})
	}
}

func TestNewDeviceIsLetInThoughItWasUnknown(t *testing.T) {
	f := newFixture(t)
	for range 2 { // the second answer comes from the cache
		_, err := f.reg.Authenticate(t.Context(), device.Credential{User: "dev1", Secret: "s"})
		wantCode(t, err, device.Unauthenticated)
	}
	secret := f.add(t, "dev1@default")
	if _, err := f.reg.Authenticate(t.Context(), device.Credential{User: "dev1", Secret: secret}); err != nil {
		t.Errorf("a device just added: %v", err)
	}
}

func TestUnreadableRecordIsRefused(t *testing.T) {
	f := newFixture(t)
	dev := id(t, "dev1@default")
	if _, err := f.store.Create(t.Context(), dev, []byte("{")); err != nil {
		t.Fatal(err)
	}
	_, err := f.reg.Authenticate(t.Context(), device.Credential{User: "dev1", Secret: "s"})
	wantCode(t, err, device.Unavailable)
	if _, err := f.reg.Get(t.Context(), dev); err == nil {
		t.Error("an unreadable record was answered")
	}
}

func TestShutdownEndsTheWatch(t *testing.T) {
	f := newFixture(t)
	secret := f.add(t, "dev1@default")
	for range 2 {
		if err := f.reg.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if f.reg.Watching() {
			t.Error("still watching after Shutdown")
		}
	}
	if err := f.reg.Run(t.Context()); err != nil {
		t.Errorf("Run after Shutdown answered %v", err)
	}
	if _, err := f.reg.Authenticate(t.Context(), device.Credential{User: "dev1", Secret: secret}); err != nil {
		t.Errorf("Authenticate after Shutdown: %v", err)
	}
}

func TestNewChecksItsConfig(t *testing.T) {
	store, pepper := new(registrytest.Memory), make([]byte, registry.PepperBytes)
	for name, cfg := range map[string]registry.Config{
		"no store":     {Pepper: pepper},
		"no pepper":    {Store: store},
		"short pepper": {Store: store, Pepper: pepper[1:]},
		"negative":     {Store: store, Pepper: pepper, CacheSize: -1},
	} {
		if _, err := registry.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func id(t *testing.T, user string) device.ID {
	t.Helper()
	id, err := device.ParseUser(user)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func wantCode(t *testing.T, err error, code device.Code) {
	t.Helper()
	if err == nil || device.CodeOf(err) != code {
		t.Errorf("answered %v, want an error of code %s", err, code)
	}
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	within(t, 15*time.Second, what, cond)
}

func within(t *testing.T, d time.Duration, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(d); ; time.Sleep(time.Millisecond) {
		if cond() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// metric sums a gauge or counter over its series with the given result label,
// or over all of them for "".
func metric(t *testing.T, g prometheus.Gatherer, name, result string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			match := result == ""
			for _, l := range m.GetLabel() {
				match = match || l.GetName() == "result" && l.GetValue() == result
			}
			if match {
				total += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return total
}
