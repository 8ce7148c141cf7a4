package pipeline

import (
	"context"
	"slices"
	"testing"

	"github.com/tributary-iot/tributary/device"
)

// TestTokensKeepTheirContract: what token.Store promises.
func TestTokensKeepTheirContract(t *testing.T) {
	store, err := inside(t, t.TempDir(), Options{Durability: Relaxed}).Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(store.Create(t.Context(), "acme", "a.b *>", []byte("1"))) // names a key could not hold
	must(store.Create(t.Context(), "acme", "gone", []byte("2")))
	if err := store.Create(t.Context(), "acme", "a.b *>", []byte("3")); device.CodeOf(err) != device.Conflict {
		t.Errorf("creating it again is answered %v", err)
	}
	must(store.Delete(t.Context(), "acme", "gone"))
	must(store.Delete(t.Context(), "acme", "never"))

	seen := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- store.Watch(ctx, func() { seen <- "ready" }, func(tenant, name string, value []byte) {
			if value == nil {
				value = []byte("removed")
			}
			seen <- tenant + "/" + name + "=" + string(value)
		})
	}()
	var before []string
	for got := range seen {
		if got == "ready" {
			break
		}
		before = append(before, got)
	}
	before = slices.DeleteFunc(before, func(s string) bool { return s == "acme/gone=removed" || s == "acme/never=removed" })
	if !slices.Equal(before, []string{"acme/a.b *>=1"}) {
		t.Errorf("there was %q", before)
	}
	must(store.Create(t.Context(), "acme", "gone", []byte("4")))
	must(store.Delete(t.Context(), "acme", "a.b *>"))
	must(store.Create(t.Context(), "other", "%41-", []byte("5")))
	for _, want := range []string{"acme/gone=4", "acme/a.b *>=removed", "other/%41-=5"} {
		if got := <-seen; got != want {
			t.Errorf("saw %q, want %q", got, want)
		}
	}
	cancel()
	must(<-ended)
}
