package registry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/registry"
)

// key is a certificate's key.
func key(n byte) device.KeyHash { return device.KeyHash{n, 1} }

// held authenticates on a node and holds what came in. The channel tells why
// it was ended.
func held(t *testing.T, on *registry.Registry, c device.Credential) <-chan error {
	t.Helper()
	var p device.Principal
	eventually(t, "the node lets the device in", func() (ok bool) {
		var err error
		p, err = on.Authenticate(t.Context(), c)
		return err == nil
	})
	ended := make(chan error, 2)
	t.Cleanup(on.Hold(p, func(err error) { ended <- err }))
	return ended
}

func wantEnded(t *testing.T, what string, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		wantCode(t, err, device.Unauthenticated)
	case <-time.After(15 * time.Second):
		t.Errorf("%s did not end the connection", what)
	}
}

func wantStanding(t *testing.T, what string, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		t.Errorf("%s ended the connection: %v", what, err)
	default:
	}
}

// TestHold says what ends a connection that came in with a secret while the
// principal also has a certificate, and one that came in with the latter.
func TestHold(t *testing.T) {
	for _, c := range []struct {
		name                     string
		do                       func(ctx context.Context, r *registry.Registry, id device.ID, secretID, keyID string) error
		endsSecret, endsWithCert bool
	}{
		{"disable", func(ctx context.Context, r *registry.Registry, id device.ID, _, _ string) error {
			_, err := r.Disable(ctx, id)
			return err
		}, true, true},
		{"remove", func(ctx context.Context, r *registry.Registry, id device.ID, _, _ string) error {
			return r.Remove(ctx, id)
		}, true, true},
		{"remove the secret", func(ctx context.Context, r *registry.Registry, id device.ID, secret, _ string) error {
			_, err := r.RemoveCredential(ctx, id, secret)
			return err
		}, true, false},
		{"remove the certificate", func(ctx context.Context, r *registry.Registry, id device.ID, _, cert string) error {
			_, err := r.RemoveCredential(ctx, id, cert)
			return err
		}, false, true},
		{"rotate", func(ctx context.Context, r *registry.Registry, id device.ID, _, _ string) error {
			_, _, err := r.Rotate(ctx, id, 0)
			return err
		}, true, false},
		{"rotate, the old one ending soon", func(ctx context.Context, r *registry.Registry, id device.ID, _, _ string) error {
			_, _, err := r.Rotate(ctx, id, 50*time.Millisecond)
			return err
		}, true, false},
		{"rotate with an overlap", func(ctx context.Context, r *registry.Registry, id device.ID, _, _ string) error {
			_, _, err := r.Rotate(ctx, id, time.Hour)
			return err
		}, false, false},
		{"add a credential", func(ctx context.Context, r *registry.Registry, id device.ID, _, _ string) error {
			_, _, err := r.AddCredential(ctx, id, device.KeyHash{})
			return err
		}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			other := f.node(t)
			dev := id(t, "dev1@default")
			secret := f.add(t, "dev1@default")
			cert, _, err := f.reg.AddCredential(t.Context(), dev, key(1))
			if err != nil {
				t.Fatal(err)
			}
			reg, err := f.reg.Get(t.Context(), dev)
			if err != nil {
				t.Fatal(err)
			}
			var ended, endedCert []<-chan error
			for _, node := range []*registry.Registry{f.reg, other} {
				ended = append(ended, held(t, node, device.Credential{User: "dev1", Secret: secret}))
				endedCert = append(endedCert, held(t, node, device.Credential{CertificateKey: key(1)}))
			}
			if err := c.do(t.Context(), f.reg, dev, reg.Credentials[0].ID, cert.ID); err != nil {
				t.Fatal(err)
			}
			f.settle(t)
			for i := range ended {
				if c.endsSecret {
					wantEnded(t, c.name, ended[i])
				}
				if c.endsWithCert {
					wantEnded(t, c.name, endedCert[i])
				}
			}
			if !c.endsSecret {
				wantStanding(t, c.name, ended[0])
			}
			if !c.endsWithCert {
				wantStanding(t, c.name, endedCert[0])
			}
		})
	}
}

// TestHoldAfterRevocation: what was revoked between Authenticate and Hold ends, too.
func TestHoldAfterRevocation(t *testing.T) {
	f := newFixture(t)
	secret := f.add(t, "dev1@default")
	p, err := f.reg.Authenticate(t.Context(), device.Credential{User: "dev1", Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.reg.Disable(t.Context(), p.ID); err != nil {
		t.Fatal(err)
	}
	f.settle(t)
	ended := make(chan error, 1)
	defer f.reg.Hold(p, func(err error) { ended <- err })()
	wantEnded(t, "a disable before Hold", ended)
}

// TestHoldOutlivesAnOutage: what was revoked while nothing was watched is found
// out when the watch is back.
func TestHoldOutlivesAnOutage(t *testing.T) {
	f := newFixture(t)
	gone, stays := f.add(t, "gone@default"), f.add(t, "stays@default")
	ended := held(t, f.reg, device.Credential{User: "gone", Secret: gone})
	standing := held(t, f.reg, device.Credential{User: "stays", Secret: stays})
	value, rev, err := f.store.Get(t.Context(), id(t, "gone@default"))
	if err != nil || value == nil {
		t.Fatal(err)
	}
	f.store.FailWatches(errors.New("cut"))
	eventually(t, "the watch ends", func() bool { return !f.reg.Watching() })
	if err := f.store.Delete(t.Context(), id(t, "gone@default"), rev); err != nil {
		t.Fatal(err)
	}
	f.store.FailWatches(nil)
	wantEnded(t, "a removal nobody watched", ended)
	wantStanding(t, "an outage", standing)
}

func TestHoldEndsWithRelease(t *testing.T) {
	f := newFixture(t)
	p, err := f.reg.Authenticate(t.Context(), device.Credential{User: "dev1", Secret: f.add(t, "dev1@default")})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	release := f.reg.Hold(p, func(err error) { ended <- err })
	release()
	release()
	if _, err := f.reg.Disable(t.Context(), p.ID); err != nil {
		t.Fatal(err)
	}
	f.settle(t)
	wantStanding(t, "a disable after release", ended)
}

// TestHoldsOfOnePrincipal: of several connections those end that were not released, in
// whatever order others were.
func TestHoldsOfOnePrincipal(t *testing.T) {
	f := newFixture(t)
	secret := f.add(t, "dev1@default")
	var all []chan error
	for _, released := range [][]int{{}, {0}, {4}, {2}, {1, 2, 3}, {3, 2, 4}, {0, 1, 0}, {4, 3, 2, 1, 0}} {
		p, err := f.reg.Authenticate(t.Context(), device.Credential{User: "dev1", Secret: secret})
		if err != nil {
			t.Fatal(err)
		}
		var ended []chan error
		var release []func()
		for range 5 {
			c := make(chan error, 2)
			ended = append(ended, c)
			release = append(release, f.reg.Hold(p, func(err error) { c <- err }))
		}
		gone := map[int]bool{}
		for _, i := range released {
			release[i]()
			gone[i] = true
		}
		if _, err := f.reg.Disable(t.Context(), p.ID); err != nil {
			t.Fatal(err)
		}
		for i := range ended {
			if !gone[i] {
				wantEnded(t, "a disable", ended[i])
			}
			release[i]()
		}
		if _, err := f.reg.Enable(t.Context(), p.ID); err != nil {
			t.Fatal(err)
		}
		all = append(all, ended...)
	}
	f.settle(t)
	for _, ended := range all {
		wantStanding(t, "what was over", ended)
	}
}

// TestHoldDevice: a gateway may go on for a device that is not, or no longer,
// registered, and must stop for one that is disabled.
func TestHoldDevice(t *testing.T) {
	f := newFixture(t)
	f.add(t, "known@default")
	ended := map[string]chan error{}
	for _, user := range []string{"known@default", "unknown@default"} {
		c := make(chan error, 1)
		ended[user] = c
		if err := f.reg.MayBeSpokenFor(t.Context(), id(t, user)); err != nil {
			t.Errorf("%s: %v", user, err)
		}
		t.Cleanup(f.reg.HoldDevice(id(t, user), func(err error) { c <- err }))
	}
	if _, err := f.reg.Disable(t.Context(), id(t, "known@default")); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended["known@default"]:
		wantCode(t, err, device.Forbidden)
	case <-time.After(15 * time.Second):
		t.Error("disabling did not end it")
	}
	wantCode(t, f.reg.MayBeSpokenFor(t.Context(), id(t, "known@default")), device.Forbidden)
	wantStanding(t, "disabling another", ended["unknown@default"])
	if err := f.reg.Remove(t.Context(), id(t, "known@default")); err != nil {
		t.Fatal(err)
	}
	if err := f.reg.MayBeSpokenFor(t.Context(), id(t, "known@default")); err != nil {
		t.Errorf("removed: %v", err)
	}
}
