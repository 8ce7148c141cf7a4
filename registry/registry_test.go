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
	_, secret, err := f.reg.Add(t.Context(), device.NewPrincipal{ID: id(t, user)})
	if err != nil {
		t.Fatalf("add %s: %v", user, err)
	}
	f.secrets[user] = secret
	return secret
}

// settle waits until the watch has told everything written so far: it ends a
// hold on a device that is disabled last.
func (f *fixture) settle(t *testing.T) {
	t.Helper()
	mark := device.ID{Tenant: "settle", Device: "mark"}
	if _, _, err := f.reg.Add(t.Context(), device.NewPrincipal{ID: mark}); err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	defer f.reg.HoldDevice(mark, func(err error) { told <- err })()
	if _, err := f.reg.Disable(t.Context(), mark); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the watch told everything", func() bool { return len(told) == 1 })
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
