package registry

import (
	"context"
	"slices"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// MaxOverlap bounds how long an old secret may go on beside the new one.
const MaxOverlap = 90 * 24 * time.Hour

// newSecret makes a secret and what is kept of it.
func (r *Registry) newSecret(now time.Time) (credential, string) {
	secret := newSecret()
	return newCredential(typeSecret, hashSecret(r.cfg.Pepper, secret), now), secret
}

// AddCredential gives a principal one more way to prove itself: the key of a
// client certificate, or for the zero key a generated secret, which is answered
// and shown this once. Conflict when the key is a credential already, of this
// principal or another; Precondition when there are device.MaxCredentials.
func (r *Registry) AddCredential(ctx context.Context, id device.ID, key device.KeyHash) (info device.CredentialInfo, secret string, err error) {
	var c credential
	var claimed uint64
	if key.IsZero() {
		c, secret = r.newSecret(timestamp())
	} else {
		c = newCredential(typeKey, key[:], timestamp())
		if _, _, err := r.read(ctx, id); err != nil { // claim nothing for nobody
			return info, "", err
		}
		if claimed, err = r.claim(ctx, key, id); err != nil {
			return info, "", err
		}
	}
	_, err = r.update(ctx, id, func(rec *record) (bool, error) {
		if !key.IsZero() && rec.hasKey(key) {
			return false, device.Errorf(device.Conflict, "the certificate's key is a credential of device %s already", id)
		}
		return true, rec.add(c)
	})
	if err == nil && !key.IsZero() {
		if err = r.confirm(ctx, key, id, claimed); err != nil {
			_, undo := r.RemoveCredential(ctx, id, c.ID)
			if undo != nil {
				r.cfg.Logger.Error("a credential could be neither added nor removed again: remove it", id.Log(), "credential", c.ID, "error", undo)
			}
		}
	}
	if err != nil {
		return device.CredentialInfo{}, "", err
	}
	return c.info(), secret, nil
}

// RemoveCredential takes one credential away and ends the connections that came
// in with it. NotFound when the principal has none of that id.
func (r *Registry) RemoveCredential(ctx context.Context, id device.ID, credentialID string) (device.Registration, error) {
	var gone []credential
	reg, err := r.update(ctx, id, func(rec *record) (bool, error) {
		gone = nil
		rec.Credentials = slices.DeleteFunc(rec.Credentials, func(c credential) bool {
			if c.ID == credentialID {
				gone = append(gone, c)
			}
			return c.ID == credentialID
		})
		if gone == nil {
			return false, device.Errorf(device.NotFound, "device %s has no credential %q", id, credentialID)
		}
		return true, nil
	})
	if err == nil {
		r.disownAll(ctx, id, gone)
	}
	return reg, err
}

// Rotate replaces the principal's secrets by a new one, answered and shown this
// once. The old ones, and the connections they opened, end after overlap (at
// most MaxOverlap; 0: now). Certificates stay. Precondition when there is no
// secret to replace.
func (r *Registry) Rotate(ctx context.Context, id device.ID, overlap time.Duration) (device.Registration, string, error) {
	if overlap < 0 || overlap > MaxOverlap {
		return device.Registration{}, "", device.Errorf(device.Invalid, "the overlap is %s, choose between 0 and %s", overlap, MaxOverlap)
	}
	now := timestamp()
	fresh, secret := r.newSecret(now)
	reg, err := r.update(ctx, id, func(rec *record) (bool, error) {
		had := false
		rec.Credentials = slices.DeleteFunc(rec.Credentials, func(c credential) bool {
			had = had || c.Type == typeSecret
			return c.Type == typeSecret && overlap == 0
		})
		if !had {
			return false, device.Errorf(device.Precondition, "device %s has no secret to replace; give it one with AddCredential", id)
		}
		end := now.Add(overlap)
		for i := range rec.Credentials {
			if c := &rec.Credentials[i]; c.Type == typeSecret && (c.Expires.IsZero() || end.Before(c.Expires)) {
				c.Expires = end
			}
		}
		return true, rec.add(fresh)
	})
	if err != nil {
		return device.Registration{}, "", err
	}
	return reg, secret, nil
}
