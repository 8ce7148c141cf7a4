package registry

import (
	"context"

	"github.com/tributary-iot/tributary/device"
)

// maxSecretBytes bounds what is hashed for a peer that is not let in yet.
const maxSecretBytes = 512

// Authenticate answers who a credential proves.
//
// A user name with a secret is verified, also in open mode. A peer that shows
// no secret is let in by open mode only: into the default tenant, named by its
// client or container id if that is a device name, and else by its addresses.
//
// Errors: Unauthenticated, with the same words and the same work done whether
// the device is unknown, disabled or showed a wrong secret; Unavailable when
// the Store cannot be asked now.
func (r *Registry) Authenticate(ctx context.Context, c device.Credential) (device.Principal, error) {
	p, result, err := r.authenticate(ctx, c)
	r.metrics.authenticated(c.Protocol, result)
	if err != nil {
		r.cfg.Logger.Debug("not let in", "protocol", c.Protocol, "user", c.User, "remote", c.RemoteAddr, "error", err)
	}
	return p, err
}

func (r *Registry) authenticate(ctx context.Context, c device.Credential) (_ device.Principal, result string, _ error) {
	if c.Anonymous || c.Secret == "" {
		if !r.cfg.Open {
			return device.Principal{}, "refused", device.Errorf(device.Unauthenticated,
				"a user name (device@tenant) and its secret are required")
		}
		return openPrincipal(c.Hint), "open", nil
	}
	id, err := device.ParseUser(c.User)
	var p *principal
	if err == nil && len(c.Secret) <= maxSecretBytes {
		if p, err = r.lookup(ctx, id); err != nil {
			return device.Principal{}, "unavailable",
				device.Wrap(device.Unavailable, "the device registry cannot be read now, try again", err)
		}
	} else {
		c.Secret = c.Secret[:min(len(c.Secret), maxSecretBytes)]
	}
	if !r.verify(p, c.Secret) {
		return device.Principal{}, "refused", device.Errorf(device.Unauthenticated,
			"unknown device, wrong secret or disabled device")
	}
	return device.Principal{ID: id, Kind: p.kind}, "ok", nil
}

// openPrincipal is a peer that open mode lets in.
func openPrincipal(hint string) device.Principal {
	id := device.ID{Tenant: device.DefaultTenant, Device: hint}
	if id.Validate() != nil {
		id.Device = ""
	}
	return device.Principal{ID: id, Kind: device.KindDevice, Open: true}
}

// lookup answers a principal from the cache or the Store, nil for an unknown one.
func (r *Registry) lookup(ctx context.Context, id device.ID) (*principal, error) {
	p, found, generation := r.cache.get(id)
	if found {
		r.metrics.lookups.WithLabelValues("hit").Inc()
		return p, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.LookupTimeout)
	defer cancel()
	rec, _, err := r.read(ctx, id)
	switch {
	case err == nil:
		p = rec.principal()
	case device.CodeOf(err) == device.NotFound:
	default:
		r.metrics.lookups.WithLabelValues("error").Inc()
		return nil, err
	}
	r.metrics.lookups.WithLabelValues("miss").Inc()
	r.cache.put(id, p, generation)
	return p, nil
}
