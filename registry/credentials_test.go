package registry_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/registry"
)

func TestKindsComeBack(t *testing.T) {
	f := newFixture(t)
	for _, n := range []device.NewPrincipal{
		{ID: id(t, "gw@acme"), Kind: device.KindGateway, For: "floor1-*", Key: key(1)},
		{ID: id(t, "app@acme"), Kind: device.KindApplication, Key: key(2)},
		{ID: id(t, "dev@acme"), Key: key(3)},
	} {
		reg, secret, err := f.reg.Add(t.Context(), n)
		if err != nil || secret != "" || len(reg.Credentials) != 1 || reg.Credentials[0].Key != n.Key || reg.Credentials[0].ID == "" {
			t.Fatalf("added %+v with secret %q, %v", reg, secret, err)
		}
		if n.Kind == "" {
			n.Kind = device.KindDevice
		}
		want := device.Principal{ID: n.ID, Kind: n.Kind, For: n.For, Credential: reg.Credentials[0].ID}
		for _, user := range []string{"", n.ID.String()} {
			got, err := f.reg.Authenticate(t.Context(), device.Credential{User: user, CertificateKey: n.Key})
			if err != nil || got != want {
				t.Errorf("as %q: %+v, %v", user, got, err)
			}
		}
	}
	for what, c := range map[string]device.Credential{
		"another's certificate":      {User: "dev@acme", CertificateKey: key(1)},
		"an unknown certificate":     {CertificateKey: key(9)},
		"no certificate and no name": {},
		"a wrong secret beside it":   {User: "dev@acme", Secret: "wrong", CertificateKey: key(3)},
		"a malformed name":           {User: "#", CertificateKey: key(3)},
	} {
		if _, err := f.reg.Authenticate(t.Context(), c); err == nil || device.CodeOf(err) != device.Unauthenticated {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, n := range []device.NewPrincipal{{ID: id(t, "x@acme"), Kind: "robot"}, {ID: id(t, "x@acme"), Kind: device.KindGateway}, {ID: id(t, "x@acme"), For: "*"}} {
		_, _, err := f.reg.Add(t.Context(), n)
		wantCode(t, err, device.Invalid)
	}
}

func TestAKeyHasOneOwner(t *testing.T) {
	f, ctx := newFixture(t), t.Context()
	a, b := id(t, "a@t"), id(t, "b@t")
	if _, _, err := f.reg.Add(ctx, device.NewPrincipal{ID: a, Key: key(1)}); err != nil {
		t.Fatal(err)
	}
	_, _, err := f.reg.Add(ctx, device.NewPrincipal{ID: b, Key: key(1)})
	wantCode(t, err, device.Conflict)
	_, err = f.reg.Get(ctx, b)
	wantCode(t, err, device.NotFound)
	f.add(t, "b@t")
	_, _, err = f.reg.AddCredential(ctx, b, key(1))
	wantCode(t, err, device.Conflict)
	_, _, err = f.reg.AddCredential(ctx, a, key(1))
	wantCode(t, err, device.Conflict)
	_, _, err = f.reg.AddCredential(ctx, id(t, "nobody@t"), key(2))
	wantCode(t, err, device.NotFound)
	reg, err := f.reg.Get(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	if reg, err = f.reg.RemoveCredential(ctx, a, reg.Credentials[0].ID); err != nil || len(reg.Credentials) != 0 {
		t.Fatalf("%+v, %v", reg, err)
	}
	_, err = f.reg.RemoveCredential(ctx, a, "nonesuch")
	wantCode(t, err, device.NotFound)
	if _, _, err := f.reg.AddCredential(ctx, b, key(1)); err != nil {
		t.Errorf("a key that was given up: %v", err)
	}
	if p, err := f.reg.Authenticate(ctx, device.Credential{CertificateKey: key(1)}); err != nil || p.ID != b {
		t.Errorf("%+v, %v", p, err)
	}
	if err := f.reg.Remove(ctx, b); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.reg.AddCredential(ctx, a, key(1)); err != nil {
		t.Errorf("a key whose owner was removed: %v", err)
	}
}

// TestAKeyGivenToManyAtOnce: whoever was told yes is let in by it.
func TestAKeyGivenToManyAtOnce(t *testing.T) {
	f := newFixture(t)
	for round := range 20 {
		won := make([]bool, 4)
		var work sync.WaitGroup
		name := func(i int) device.ID { return device.ID{Tenant: "t", Device: fmt.Sprintf("r%d-%d", round, i)} }
		for i := range won {
			work.Go(func() {
				_, _, err := f.reg.Add(t.Context(), device.NewPrincipal{ID: name(i), Key: key(byte(round))})
				won[i] = err == nil
				if err != nil && device.CodeOf(err) != device.Conflict {
					t.Error(err)
				}
			})
		}
		work.Wait()
		winners := 0
		for i, yes := range won {
			if !yes {
				continue
			}
			winners++
			if p, err := f.reg.Authenticate(t.Context(), device.Credential{CertificateKey: key(byte(round))}); err != nil || p.ID != name(i) {
				t.Errorf("round %d: %s was told yes, and the key lets in %+v (%v)", round, name(i), p, err)
			}
		}
		if winners > 1 {
			t.Errorf("round %d: %d owners of one key", round, winners)
		}
	}
}

func TestRotateWithOverlap(t *testing.T) {
	f, ctx, dev := newFixture(t), t.Context(), id(t, "dev1@default")
	old := f.add(t, "dev1@default")
	if _, _, err := f.reg.AddCredential(ctx, dev, key(1)); err != nil {
		t.Fatal(err)
	}
	reg, fresh, err := f.reg.Rotate(ctx, dev, time.Hour)
	if err != nil || len(reg.Credentials) != 3 || reg.Credentials[0].ExpiresAt.IsZero() || !reg.Credentials[1].ExpiresAt.IsZero() || !reg.Credentials[2].ExpiresAt.IsZero() {
		t.Fatalf("rotated to %+v, %v", reg, err)
	}
	for _, secret := range []string{old, fresh} {
		if _, err := f.reg.Authenticate(ctx, device.Credential{User: "dev1", Secret: secret}); err != nil {
			t.Error(err)
		}
	}
	reg, last, err := f.reg.Rotate(ctx, dev, 0)
	if err != nil || len(reg.Credentials) != 2 {
		t.Fatalf("rotated to %+v, %v", reg, err)
	}
	for _, secret := range []string{old, fresh} {
		_, err := f.reg.Authenticate(ctx, device.Credential{User: "dev1", Secret: secret})
		wantCode(t, err, device.Unauthenticated)
	}
	for _, c := range []device.Credential{{User: "dev1", Secret: last}, {CertificateKey: key(1)}} {
		if _, err := f.reg.Authenticate(ctx, c); err != nil {
			t.Error(err)
		}
	}
	for _, overlap := range []time.Duration{-1, registry.MaxOverlap + 1} {
		_, _, err := f.reg.Rotate(ctx, dev, overlap)
		wantCode(t, err, device.Invalid)
	}
	if _, _, err := f.reg.Add(ctx, device.NewPrincipal{ID: id(t, "cert@t"), Key: key(5)}); err != nil {
		t.Fatal(err)
	}
	_, _, err = f.reg.Rotate(ctx, id(t, "cert@t"), 0)
	wantCode(t, err, device.Precondition)
}

func TestCredentialsAreBounded(t *testing.T) {
	f, dev := newFixture(t), id(t, "dev1@default")
	f.add(t, "dev1@default")
	for range device.MaxCredentials - 1 {
		if _, secret, err := f.reg.AddCredential(t.Context(), dev, device.KeyHash{}); err != nil || secret == "" {
			t.Fatal(err)
		}
	}
	_, _, err := f.reg.AddCredential(t.Context(), dev, device.KeyHash{})
	wantCode(t, err, device.Precondition)
}

func TestAddMany(t *testing.T) {
	f := newFixture(t)
	f.add(t, "d2@t")
	var all []device.NewPrincipal
	for i := range 5 {
		all = append(all, device.NewPrincipal{ID: device.ID{Tenant: "t", Device: fmt.Sprintf("d%d", i)}})
	}
	all[4].Kind = "robot"
	added, err := f.reg.AddMany(t.Context(), all)
	if err != nil || len(added) != 5 {
		t.Fatal(added, err)
	}
	for i, a := range added {
		switch i {
		case 2:
			wantCode(t, a.Err, device.Conflict)
		case 4:
			wantCode(t, a.Err, device.Invalid)
		default:
			if _, err := f.reg.Authenticate(t.Context(), device.Credential{User: all[i].ID.String(), Secret: a.Secret}); err != nil || a.Registration.ID != all[i].ID {
				t.Errorf("%d: %+v, %v", i, a, err)
			}
		}
	}
	_, err = f.reg.AddMany(t.Context(), make([]device.NewPrincipal, registry.MaxAddMany+1))
	wantCode(t, err, device.Invalid)
}
