package registry

import (
	"context"
	"errors"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// maxSecretBytes bounds what is hashed for a peer that is not let in yet.
const maxSecretBytes = 512

// errRefused is one answer for all who are not let in.
var errRefused = device.Errorf(device.Unauthenticated, "unknown device, wrong credential or disabled device")

// Authenticate answers who a credential proves.
//
// A secret that is shown decides, also in open mode: it must be one of the
// user's. Without one, the key of a client certificate decides, also in open
// mode: it must be a credential of a principal, and of the user if one is named.
// A peer that shows neither is let in by open mode only: into the default
// tenant, named by its client or container id if that is a device name, and else
// by its addresses.
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

func (r *Registry) authenticate(ctx context.Context, c device.Credential) (p device.Principal, result string, err error) {
	switch {
	case c.Secret != "":
		p, err = r.bySecret(ctx, c.User, c.Secret)
	case !c.CertificateKey.IsZero():
		p, err = r.byCertificate(ctx, c.User, c.CertificateKey)
	case r.cfg.Open:
		return openPrincipal(c.Hint), "open", nil
	default:
		err = device.Errorf(device.Unauthenticated,
			"a user name (device@tenant) and its secret, or a client certificate over TLS, are required")
	}
	switch device.CodeOf(err) {
	case device.Unauthenticated:
		result = "refused"
	case device.Unavailable:
		result = "unavailable"
	}
	if err == nil {
		result = "ok"
	}
	return p, result, err
}

// openPrincipal is a peer that open mode lets in.
func openPrincipal(hint string) device.Principal {
	id := device.ID{Tenant: device.DefaultTenant, Device: hint}
	if id.Validate() != nil {
		id.Device = ""
	}
	return device.Principal{ID: id, Kind: device.KindDevice, Open: true}
}

func (r *Registry) bySecret(ctx context.Context, user, secret string) (device.Principal, error) {
	id, err := device.ParseUser(user)
	var p *principal
	if err == nil && len(secret) <= maxSecretBytes {
		if p, err = r.ask(ctx, id); err != nil {
			return device.Principal{}, err
		}
	} else {
		secret = secret[:min(len(secret), maxSecretBytes)]
	}
	proven := r.verify(p, secret)
	if proven == "" {
		return device.Principal{}, errRefused
	}
	return p.words(id, proven), nil
}

func (r *Registry) byCertificate(ctx context.Context, user string, key device.KeyHash) (device.Principal, error) {
	o, err := r.ask(ctx, ownerID(key))
	if err != nil {
		return device.Principal{}, err
	}
	if o == nil {
		return device.Principal{}, errRefused
	}
	id := o.owner
	if user != "" {
		if named, err := device.ParseUser(user); err != nil || named != id {
			return device.Principal{}, errRefused
		}
	}
	p, err := r.ask(ctx, id)
	if err != nil {
		return device.Principal{}, err
	}
	if p == nil || p.disabled {
		return device.Principal{}, errRefused
	}
	now := time.Now()
	for i := range p.proofs {
		if one := &p.proofs[i]; one.key && one.hash == key && !one.expired(now) {
			return p.words(id, one.id), nil
		}
	}
	return device.Principal{}, errRefused
}

// words is the principal as the house speaks of it.
func (p *principal) words(id device.ID, credential string) device.Principal {
	return device.Principal{ID: id, Kind: p.kind, For: p.allowed, Credential: credential}
}

// ask is lookup for a peer: an outage is Unavailable.
func (r *Registry) ask(ctx context.Context, id device.ID) (*principal, error) {
	p, err := r.lookup(ctx, id)
	if err != nil {
		return nil, device.Wrap(device.Unavailable, "the device registry cannot be read now, try again", err)
	}
	return p, nil
}

// lookup answers a principal, or the owner of a key, from the cache or the
// Store; nil for an unknown one. Few questions are asked of the Store at a
// time: strangers who try names wait for one another, and the Store does not
// notice how many they are.
func (r *Registry) lookup(ctx context.Context, id device.ID) (*principal, error) {
	p, found, _ := r.cache.get(id)
	if found {
		r.metrics.lookups.WithLabelValues("hit").Inc()
		return p, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.LookupTimeout)
	defer cancel()
	select {
	case r.asking <- struct{}{}:
		defer func() { <-r.asking }()
	case <-ctx.Done():
		r.metrics.lookups.WithLabelValues("error").Inc()
		return nil, ctx.Err()
	}
	p, found, generation := r.cache.get(id) // somebody may have asked meanwhile
	if found {
		r.metrics.lookups.WithLabelValues("hit").Inc()
		return p, nil
	}
	p, err := r.fetch(ctx, id)
	if err != nil {
		r.metrics.lookups.WithLabelValues("error").Inc()
		return nil, err
	}
	r.metrics.lookups.WithLabelValues("miss").Inc()
	r.cache.put(id, p, generation)
	return p, nil
}

// fetch reads what the Store has under id; nil for nothing.
func (r *Registry) fetch(ctx context.Context, id device.ID) (*principal, error) {
	value, _, err := r.cfg.Store.Get(ctx, id)
	switch {
	case device.CodeOf(err) == device.NotFound:
		return nil, nil
	case err != nil:
		return nil, err
	}
	p, err := decode(id, value)
	if err != nil {
		return nil, errors.Join(errUnreadable, err)
	}
	return p, nil
}

// errUnreadable marks a record that reading again will not mend.
var errUnreadable = errors.New("unreadable")

// decode reads either form of what is stored under id.
func decode(id device.ID, value []byte) (*principal, error) {
	if isOwnerID(id) {
		o, err := decodeOwner(id, value)
		return &principal{owner: o.id()}, err
	}
	rec, err := decodeRecord(id, value)
	if err != nil {
		return nil, err
	}
	return rec.principal(), nil
}
