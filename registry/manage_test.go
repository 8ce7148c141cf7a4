package registry_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"sync"
	"testing"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/registry"
)

func TestLifeOfADevice(t *testing.T) {
	f, ctx, dev := newFixture(t), t.Context(), id(t, "dev1@acme")
	_, err := f.reg.Get(ctx, dev)
	wantCode(t, err, device.NotFound)

	added, secret, err := f.reg.Add(ctx, device.NewPrincipal{ID: dev})
	if err != nil || added.ID != dev || added.Kind != device.KindDevice || added.Disabled || added.CreatedAt.IsZero() {
		t.Fatalf("added %+v, %v", added, err)
	}
	if !regexp.MustCompile(`^trib_[a-z2-7]{52}$`).MatchString(secret) {
		t.Errorf("secret %q does not look like one", secret)
	}
	_, _, err = f.reg.Add(ctx, device.NewPrincipal{ID: dev})
	wantCode(t, err, device.Conflict)

	off, err := f.reg.Disable(ctx, dev)
	if err != nil || !off.Disabled || off.CreatedAt != added.CreatedAt {
		t.Errorf("disabled %+v, %v", off, err)
	}
	again, err := f.reg.Disable(ctx, dev)
	if err != nil || !reflect.DeepEqual(again, off) {
		t.Errorf("disabled again %+v, %v", again, err)
	}
	on, err := f.reg.Enable(ctx, dev)
	if err != nil || on.Disabled {
		t.Errorf("enabled %+v, %v", on, err)
	}
	if _, err := f.reg.Authenticate(ctx, device.Credential{User: "dev1@acme", Secret: secret}); err != nil {
		t.Errorf("enabled again, the old secret: %v", err)
	}

	_, fresh, err := f.reg.Rotate(ctx, dev, 0)
	if err != nil || fresh == secret {
		t.Errorf("rotated to %q, %v", fresh, err)
	}
	_, err = f.reg.Authenticate(ctx, device.Credential{User: "dev1@acme", Secret: secret})
	wantCode(t, err, device.Unauthenticated)
	if _, err := f.reg.Authenticate(ctx, device.Credential{User: "dev1@acme", Secret: fresh}); err != nil {
		t.Errorf("the new secret: %v", err)
	}
	if err := f.reg.Remove(ctx, dev); err != nil {
		t.Error(err)
	}
	wantCode(t, f.reg.Remove(ctx, dev), device.NotFound)
	_, err = f.reg.Disable(ctx, dev)
	wantCode(t, err, device.NotFound)
	_, _, err = f.reg.Rotate(ctx, dev, 0)
	wantCode(t, err, device.NotFound)
}

func TestSecretsAreNotStored(t *testing.T) {
	f := newFixture(t)
	secret := f.add(t, "dev1@default")
	value, _, err := f.store.Get(t.Context(), id(t, "dev1@default"))
	if err != nil || bytes.Contains(value, []byte(secret)) || bytes.Contains(value, []byte(secret[5:])) {
		t.Errorf("the record is %s, %v", value, err)
	}
}

func TestAddRefusesBadNames(t *testing.T) {
	f := newFixture(t)
	for _, dev := range []device.ID{{}, {Tenant: "t"}, {Tenant: "t", Device: "a/b"}, {Tenant: "t", Device: "telemetry"}, {Device: "d"}} {
		_, _, err := f.reg.Add(t.Context(), device.NewPrincipal{ID: dev})
		wantCode(t, err, device.Invalid)
	}
}

func TestList(t *testing.T) {
	f := newFixture(t)
	for i := range 5 {
		f.add(t, fmt.Sprintf("d%d@acme", i))
	}
	f.add(t, "d2x@other")
	page, next, err := f.reg.List(t.Context(), "acme", "", 3)
	if err != nil || len(page) != 3 || page[0].ID.Device != "d0" || page[2].ID.Device != "d2" || next == "" {
		t.Errorf("listed %+v, %q, %v", page, next, err)
	}
	page, next, err = f.reg.List(t.Context(), "acme", next, 3)
	if err != nil || len(page) != 2 || page[0].ID.Device != "d3" || page[1].ID.Device != "d4" || next != "" {
		t.Errorf("then %+v, %q, %v", page, next, err)
	}
	for _, limit := range []int{0, -1, registry.MaxListLimit + 1} {
		_, _, err := f.reg.List(t.Context(), "acme", "", limit)
		wantCode(t, err, device.Invalid)
	}
}

func TestChangesAtOnceAllCount(t *testing.T) {
	f := newFixture(t)
	f.add(t, "dev1@default")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			var err error
			if i%2 == 0 {
				_, err = f.reg.Disable(t.Context(), id(t, "dev1@default"))
			} else {
				_, _, err = f.reg.Rotate(t.Context(), id(t, "dev1@default"), 0)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if reg, err := f.reg.Get(t.Context(), id(t, "dev1@default")); err != nil || !reg.Disabled {
		t.Errorf("a rotation undid a disable: %+v, %v", reg, err)
	}
}

func TestLoadPepper(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pepper")
	const starters = 8
	got := make([][]byte, starters)
	var wg sync.WaitGroup
	for i := range starters {
		wg.Go(func() {
			var err error
			if got[i], err = registry.LoadPepper(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, p := range got {
		if len(p) != registry.PepperBytes || !bytes.Equal(p, got[0]) || bytes.Equal(p, make([]byte, len(p))) {
			t.Fatalf("starters read different peppers: %x", got)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestLoadPepperRefuses(t *testing.T) {
	for name, prepare := range map[string]func(path string) error{
		"readable by others": func(p string) error { return os.WriteFile(p, make([]byte, 32), 0o644) },
		"too short":          func(p string) error { return os.WriteFile(p, make([]byte, 31), 0o600) },
		"empty":              func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"a directory":        func(p string) error { return os.Mkdir(p, 0o700) },
		"no directory":       func(p string) error { return os.Remove(filepath.Dir(p)) },
	} {
		path := filepath.Join(t.TempDir(), "sub", "pepper")
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := prepare(path); err != nil {
			t.Fatal(err)
		}
		if _, err := registry.LoadPepper(path); err == nil {
			t.Errorf("%s: no error", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}
