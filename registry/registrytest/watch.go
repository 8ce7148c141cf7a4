package registrytest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/registry"
)

// patience is how long a condition may take on a busy machine before it counts
// as never coming true.
const patience = 15 * time.Second

func testWatch(t *testing.T, s registry.Store) {
	seen, stop := watch(t, s)
	rev := create(t, s, dev("a.b"), "one")
	seen(t, "a.b@t=one")
	rev = update(t, s, dev("a.b"), "two", rev)
	seen(t, "a.b@t=two")
	other := device.ID{Tenant: "u", Device: "ü"}
	create(t, s, other, "x")
	seen(t, "ü@u=x")
	if err := s.Delete(t.Context(), dev("a.b"), rev); err != nil {
		t.Fatal(err)
	}
	seen(t, "a.b@t deleted")
	create(t, s, dev("a.b"), "again")
	seen(t, "a.b@t=again")
	stop(t)
}

func testWatchFresh(t *testing.T, s registry.Store) {
	rev := create(t, s, dev("a"), "before")
	create(t, s, dev("b"), "before")
	seen, stop := watch(t, s)
	update(t, s, dev("a"), "after", rev)
	seen(t, "a@t=after")
	stop(t)
}

// watch starts a watch, waits until it is ready and answers what checks the
// next change and what ends it.
func watch(t *testing.T, s registry.Store) (seen func(*testing.T, string), stop func(*testing.T)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	ready, ended, changes := make(chan struct{}), make(chan error, 1), make(chan string, 100)
	go func() {
		ended <- s.Watch(ctx, func() { close(ready) }, func(id device.ID, value []byte, _ uint64) {
			if value == nil {
				changes <- id.String() + " deleted"
			} else {
				changes <- fmt.Sprintf("%s=%s", id, value)
			}
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("Watch ended before it was ready: %v", err)
	case <-time.After(patience):
		t.Fatal("Watch was never ready")
	}
	seen = func(t *testing.T, want string) {
		t.Helper()
		select {
		case got := <-changes:
			if got != want {
				t.Fatalf("watch told %q, want %q", got, want)
			}
		case err := <-ended:
			t.Fatalf("Watch ended: %v", err)
		case <-time.After(patience):
			t.Fatalf("watch never told %q", want)
		}
	}
	stop = func(t *testing.T) {
		t.Helper()
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Watch answered %v when its context ended, want nil", err)
			}
		case <-time.After(patience):
			t.Error("Watch did not end with its context")
		}
		if len(changes) > 0 {
			t.Errorf("watch also told %q", <-changes)
		}
	}
	return seen, stop
}

// dev is a device of the suite's tenant.
func dev(name string) device.ID { return device.ID{Tenant: "t", Device: name} }

func create(t *testing.T, s registry.Store, id device.ID, value string) uint64 {
	t.Helper()
	rev, err := s.Create(t.Context(), id, []byte(value))
	if err != nil {
		t.Fatalf("Create %s: %v", id, err)
	}
	return rev
}

func update(t *testing.T, s registry.Store, id device.ID, value string, revision uint64) uint64 {
	t.Helper()
	rev, err := s.Update(t.Context(), id, []byte(value), revision)
	if err != nil {
		t.Fatalf("Update %s: %v", id, err)
	}
	return rev
}

// list answers all names of a tenant, sorted, read in pages.
func list(t *testing.T, s registry.Store, tenant string, limit int) []string {
	t.Helper()
	var names []string
	for cursor, pages := "", 0; ; pages++ {
		if pages > 100 {
			t.Fatal("paging does not end")
		}
		before := len(names)
		next, err := s.List(t.Context(), tenant, cursor, limit, func(id device.ID, _ []byte, rev uint64) error {
			if id.Tenant != tenant || rev == 0 {
				t.Errorf("listing tenant %q answered %s at revision %d", tenant, id, rev)
			}
			names = append(names, id.Device)
			return nil
		})
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		if len(names)-before > limit {
			t.Errorf("a page of %d held %d", limit, len(names)-before)
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	slices.Sort(names)
	return names
}

func wantRecord(t *testing.T, s registry.Store, id device.ID, value string, revision uint64) {
	t.Helper()
	got, rev, err := s.Get(t.Context(), id)
	if err != nil || string(got) != value || rev != revision {
		t.Errorf("%s holds %q at revision %d (%v), want %q at %d", id, got, rev, err, value, revision)
	}
}

func wantCode(t *testing.T, err error, code device.Code) {
	t.Helper()
	if err == nil || device.CodeOf(err) != code {
		t.Errorf("answered %v, want an error of code %s", err, code)
	}
}
