package pipeline

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/tributary-iot/tributary/device"
)

// TestBatchesKeepTheirContract: what batch.Store promises.
func TestBatchesKeepTheirContract(t *testing.T) {
	ctx := t.Context()
	store, err := inside(t, t.TempDir(), Options{Durability: Relaxed}).Batches(ctx)
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, part int, value string, rev uint64) uint64 {
		t.Helper()
		rev, err := store.Put(ctx, "acme.x", name, part, []byte(value), rev)
		if err != nil {
			t.Fatal(err)
		}
		return rev
	}
	refused := func(want device.Code, err error) {
		t.Helper()
		if err == nil || device.CodeOf(err) != want {
			t.Errorf("answered %v, want %s", err, want)
		}
	}
	one := put("b 1", -1, "one", 0)
	_, err = store.Put(ctx, "acme.x", "b 1", -1, []byte("two"), 0)
	refused(device.Conflict, err)
	_, err = store.Put(ctx, "acme.x", "b 1", -1, []byte("two"), one+7)
	refused(device.Conflict, err)
	put("b 1", -1, "two", one)
	put("parts", 0, "p0", 0)
	p1 := put("parts", 1, "p1", 0)
	put("others", 0, "not ours", 0)
	if value, rev, err := store.Get(ctx, "acme.x", "parts", 1); err != nil || string(value) != "p1" || rev != p1 {
		t.Errorf("got %q at %d, %v", value, rev, err)
	}
	_, _, err = store.Get(ctx, "acme.x", "nosuch", -1)
	refused(device.NotFound, err)

	seen := make(chan string, 100)
	watch, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- store.Watch(watch, func() { seen <- "ready" }, func(tenant, id string, value []byte, _ uint64) {
			seen <- fmt.Sprintf("%s/%s=%s", tenant, id, value)
		})
	}()
	full := errors.New("full")
	follow := make(chan string, 100)
	go func() {
		ended <- store.Follow(ctx, "acme.x", "b 1", "parts", func(part int, value []byte) error {
			follow <- fmt.Sprint(part, string(value))
			if part == -1 && string(value) == "three" {
				return full
			}
			return nil
		})
	}()
	expect := func(from chan string, want ...string) {
		t.Helper()
		for _, w := range want {
			if got := <-from; got != w {
				t.Errorf("saw %q, want %q", got, w)
			}
		}
	}
	expect(seen, "acme.x/b 1=two", "ready")
	expect(follow, "-1two", "0p0", "1p1")
	put("parts", 1, "p1 again", p1)
	_, rev, err := store.Get(ctx, "acme.x", "b 1", -1)
	if err != nil {
		t.Fatal(err)
	}
	put("b 1", -1, "three", rev)
	expect(follow, "1p1 again", "-1three")
	if err := <-ended; !errors.Is(err, full) {
		t.Errorf("following ended with %v", err)
	}
	expect(seen, "acme.x/b 1=three")
	if err := store.Remove(ctx, "acme.x", "b 1", -1); err != nil {
		t.Fatal(err)
	}
	expect(seen, "acme.x/b 1=")
	put("b 1", -1, "a new one of that name", 0)
	expect(seen, "acme.x/b 1=a new one of that name")
	stop()
	if err := <-ended; err != nil {
		t.Errorf("watching ended with %v", err)
	}
}
