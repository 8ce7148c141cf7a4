package token

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// Verify answers whose text this is, and a context that ends when that token is
// removed or expires. Errors: Unauthenticated, in the same words whether it
// never was, was removed or has expired; Unavailable while the tokens cannot be
// known.
func (b *Book) Verify(ctx context.Context, text string) (device.Token, context.Context, error) {
	if len(text) > maxTextBytes || !strings.HasPrefix(text, Prefix) {
		b.metrics.checks.WithLabelValues("refused").Inc()
		return device.Token{}, nil, errUnknown()
	}
	s := b.hash(text)
	var found *entry
	err := b.wait(ctx, func() bool { found = b.sums[s]; return b.synced })
	switch {
	case err != nil:
		b.metrics.checks.WithLabelValues("unavailable").Inc()
		return device.Token{}, nil, device.Wrap(device.Unavailable, "API tokens cannot be checked now, try again", err)
	case found == nil || found.life.Err() != nil:
		b.metrics.checks.WithLabelValues("refused").Inc()
		return device.Token{}, nil, errUnknown()
	}
	b.metrics.checks.WithLabelValues("ok").Inc()
	return found.token, found.life, nil
}

func errUnknown() error {
	return device.Errorf(device.Unauthenticated, "this token is not known here: it was never made, was removed, or has expired")
}

// Create makes a token and answers its text, which is shown this once. ttl is
// how long it lives, 0 for ever. Errors: Invalid, Conflict when the name is
// taken, Precondition when the tenant has too many.
func (b *Book) Create(ctx context.Context, t device.Token, ttl time.Duration) (device.Token, string, error) {
	t.CreatedAt = time.Now().UTC().Truncate(time.Millisecond)
	t.ExpiresAt = time.Time{}
	switch {
	case ttl < 0:
		return t, "", device.Errorf(device.Invalid, "a token cannot expire before it is made")
	case ttl > 0:
		t.ExpiresAt = t.CreatedAt.Add(ttl)
	}
	if err := t.Validate(); err != nil {
		return t, "", err
	}
	if have := len(b.of(t.Tenant)); have >= b.cfg.MaxPerTenant {
		return t, "", device.Errorf(device.Precondition, "tenant %q has %d tokens, which is the limit: remove one", t.Tenant, have)
	}
	text := newText()
	s := b.hash(text)
	value, err := encode(t, s)
	if err != nil {
		return t, "", err
	}
	switch err := b.cfg.Store.Create(ctx, t.Tenant, t.Name, value); {
	case device.CodeOf(err) == device.Conflict:
		return t, "", device.Errorf(device.Conflict, "there is a token %q in tenant %q: remove it first, or choose another name", t.Name, t.Tenant)
	case err != nil:
		return t, "", device.Wrap(device.Unavailable, "tokens cannot be written now, try again", err)
	}
	// Made it is; whether this node has heard of it yet is only a courtesy.
	if err := b.wait(ctx, func() bool { return b.sums[s] != nil }); err != nil {
		b.cfg.Logger.Warn("a token was made and is not known on this node yet", "tenant", t.Tenant, "token", t.Name, "error", err)
	}
	return t, text, nil
}

// Remove ends a token and every call made with it. Errors: NotFound.
func (b *Book) Remove(ctx context.Context, tenant, name string) error {
	k := key{tenant, name}
	var found *entry
	if err := b.wait(ctx, func() bool { found = b.names[k]; return b.synced }); err != nil {
		return device.Wrap(device.Unavailable, "tokens cannot be read now, try again", err)
	}
	if found == nil {
		return device.Errorf(device.NotFound, "there is no token %q in tenant %q", name, tenant)
	}
	if err := b.cfg.Store.Delete(ctx, tenant, name); err != nil {
		return device.Wrap(device.Unavailable, "tokens cannot be written now, try again", err)
	}
	if err := b.wait(ctx, func() bool { return b.sums[found.sum] == nil }); err != nil {
		return device.Wrap(device.Unavailable, "the token is removed, but this node has not heard of it yet: try again", err)
	}
	return nil
}

// List answers a tenant's tokens whose names sort after the given one, in byte
// order of names, at most limit.
func (b *Book) List(ctx context.Context, tenant, after string, limit int) ([]device.Token, error) {
	if err := b.wait(ctx, func() bool { return b.synced }); err != nil {
		return nil, device.Wrap(device.Unavailable, "tokens cannot be read now, try again", err)
	}
	found := slices.DeleteFunc(b.of(tenant), func(t device.Token) bool { return t.Name <= after })
	slices.SortFunc(found, func(x, y device.Token) int { return strings.Compare(x.Name, y.Name) })
	return found[:min(limit, len(found))], nil
}

// of answers a tenant's tokens in no order.
func (b *Book) of(tenant string) (found []device.Token) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, e := range b.names {
		if k.tenant == tenant {
			found = append(found, e.token)
		}
	}
	return found
}
