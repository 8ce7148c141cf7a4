package registry_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/registry"
)

func TestAuthenticate(t *testing.T) {
	f := newFixture(t)
	secret := f.add(t, "dev1@default")
	theirs := f.add(t, "dev1@acme")
	f.add(t, "off@default")
	if _, err := f.reg.Disable(t.Context(), id(t, "off@default")); err != nil {
		t.Fatal(err)
	}
	dev1 := device.Principal{ID: id(t, "dev1@default"), Kind: device.KindDevice}
	for _, c := range []struct {
		name         string
		user, secret string
		want         device.Principal
		code         device.Code
	}{
		{"its secret", "dev1", secret, dev1, 0},
		{"its secret, tenant named", "dev1@default", secret, dev1, 0},
		{"its secret in another tenant", "dev1@acme", theirs, device.Principal{ID: id(t, "dev1@acme"), Kind: device.KindDevice}, 0},
		{"a wrong secret", "dev1", secret + "x", device.Principal{}, device.Unauthenticated},
		{"the secret in capitals", "dev1", strings.ToUpper(secret), device.Principal{}, device.Unauthenticated},
		{"another tenant's secret", "dev1", theirs, device.Principal{}, device.Unauthenticated},
		{"an unknown device", "dev2", secret, device.Principal{}, device.Unauthenticated},
		{"a disabled device", "off", f.secrets["off@default"], device.Principal{}, device.Unauthenticated},
		{"no device name", "@acme", secret, device.Principal{}, device.Unauthenticated},
		{"no user", "", secret, device.Principal{}, device.Unauthenticated},
		{"a wildcard", "+@default", secret, device.Principal{}, device.Unauthenticated},
		{"an endless secret", "dev1", strings.Repeat("x", 1<<20), device.Principal{}, device.Unauthenticated},
		{"no secret", "dev1", "", device.Principal{}, device.Unauthenticated},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, attempt := range []string{"first", "cached"} {
				got, err := f.reg.Authenticate(t.Context(), device.Credential{Protocol: device.MQTT, User: c.user, Secret: c.secret})
				got.Credential = "" // a random id; held by TestHold
				if got != c.want || device.CodeOf(err) != c.code || (err == nil) != (c.code == 0) {
					t.Errorf("%s: %+v, %v", attempt, got, err)
				}
			}
		})
	}
}

// TestRefusalsAreAlike holds that a peer cannot tell which names exist.
func TestRefusalsAreAlike(t *testing.T) {
	f := newFixture(t)
	f.add(t, "dev1@default")
	f.add(t, "off@default")
	if _, err := f.reg.Disable(t.Context(), id(t, "off@default")); err != nil {
		t.Fatal(err)
	}
	words := map[string]bool{}
	for _, c := range []device.Credential{
		{User: "dev1", Secret: "wrong"},
		{User: "nobody", Secret: "wrong"},
		{User: "off", Secret: f.secrets["off@default"]},
		{User: "#", Secret: "wrong"},
	} {
		_, err := f.reg.Authenticate(t.Context(), c)
		words[err.Error()] = true
	}
	if len(words) != 1 {
		t.Errorf("refusals differ: %v", words)
	}
}

func TestOpenMode(t *testing.T) {
	f := newFixture(t, func(c *registry.Config) { c.Open = true })
	secret := f.add(t, "dev1@acme")
	open := func(name string) device.Principal {
		return device.Principal{ID: device.ID{Tenant: device.DefaultTenant, Device: name}, Kind: device.KindDevice, Open: true}
	}
	for _, c := range []struct {
		name string
		cred device.Credential
		want device.Principal
		code device.Code
	}{
		{"nothing shown", device.Credential{Anonymous: true}, open(""), 0},
		{"named by its client id", device.Credential{Anonymous: true, Hint: "thermo-7"}, open("thermo-7"), 0},
		{"a client id no device can have", device.Credential{Anonymous: true, Hint: "a/b"}, open(""), 0},
		{"a reserved client id", device.Credential{Anonymous: true, Hint: "telemetry"}, open(""), 0},
		{"a user name without a secret", device.Credential{User: "dev1@acme", Hint: "c1"}, open("c1"), 0},
		{"a right secret", device.Credential{User: "dev1@acme", Secret: secret},
			device.Principal{ID: id(t, "dev1@acme"), Kind: device.KindDevice}, 0},
		{"a wrong secret", device.Credential{User: "dev1@acme", Secret: "x"}, device.Principal{}, device.Unauthenticated},
		{"a secret of nobody", device.Credential{Secret: "x"}, device.Principal{}, device.Unauthenticated},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := f.reg.Authenticate(t.Context(), c.cred)
			got.Credential = ""
			if got != c.want || device.CodeOf(err) != c.code || (err == nil) != (c.code == 0) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	closed := newFixture(t)
	_, err := closed.reg.Authenticate(t.Context(), device.Credential{Anonymous: true, Hint: "dev1"})
	wantCode(t, err, device.Unauthenticated)
}

func TestStoreDownIsUnavailable(t *testing.T) {
	f := newFixture(t)
	secret := f.add(t, "dev1@default")
	f.store.Fail(errors.New("disk on fire"))
	eventually(t, "the watch ends", func() bool { return !f.reg.Watching() })
	_, err := f.reg.Authenticate(t.Context(), device.Credential{User: "dev1", Secret: secret})
	wantCode(t, err, device.Unavailable)
	if strings.Contains(device.PublicMessage(err), "fire") {
		t.Errorf("the peer is told %q", device.PublicMessage(err))
	}
	f.store.Fail(nil)
	if _, err := f.reg.Authenticate(t.Context(), device.Credential{User: "dev1", Secret: secret}); err != nil {
		t.Errorf("after the outage: %v", err)
	}
	eventually(t, "the watch is back", f.reg.Watching)
}

func TestCacheIsUsedAndBounded(t *testing.T) {
	prom := prometheus.NewRegistry()
	f := newFixture(t, func(c *registry.Config) { c.CacheSize, c.Registerer = 2, prom })
	users := []string{"a@t", "b@t", "c@t"}
	for _, user := range users {
		f.add(t, user)
	}
	f.settle(t)
	before := metric(t, prom, "tributary_registry_lookups_total", "hit") // settle looks one up, too
	for _, user := range users {
		for range 3 {
			if _, err := f.reg.Authenticate(t.Context(), device.Credential{User: user, Secret: f.secrets[user]}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, user := range []string{"x@t", "y@t", "y@t"} {
		_, err := f.reg.Authenticate(t.Context(), device.Credential{User: user, Secret: "s"})
		wantCode(t, err, device.Unauthenticated)
	}
	if n := metric(t, prom, "tributary_registry_cache_entries", ""); n != 3 {
		t.Errorf("the cache holds %v entries, want 2 known and 1 unknown", n)
	}
	if n := metric(t, prom, "tributary_registry_lookups_total", "hit") - before; n != 7 {
		t.Errorf("%v lookups were answered by the cache, want 7", n)
	}
	if n := metric(t, prom, "tributary_registry_authentications_total", "refused"); n != 3 {
		t.Errorf("%v refusals counted, want 3", n)
	}
}
