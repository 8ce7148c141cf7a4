// Package registrytest proves that a registry.Store keeps its contract (Test),
// and offers one in memory for the tests of others (Memory).
package registrytest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/registry"
)

// Store is the contract, named here too so that the test of a store need not
// import package registry.
type Store = registry.Store

// Test runs the whole contract against stores made by open, which answers an
// empty one each time and cleans up with t.Cleanup.
func Test(t *testing.T, open func(t *testing.T) Store) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Store)
	}{
		{"a record is created once", testCreate},
		{"an update needs the current revision", testUpdate},
		{"a delete needs the current revision, and makes room", testDelete},
		{"of many writers of one revision one wins", testRace},
		{"any device name is a key of its own", testNames},
		{"a listing is paged and of one tenant", testList},
		{"a listing shows who is there all the while exactly once", testListChanging},
		{"what is of no tenant is kept like the rest, and not listed", testNoTenant},
		{"an error from each ends the listing", testListError},
		{"bytes belong to the caller", testAliasing},
		{"a watch tells every change in order", testWatch},
		{"a watch tells nothing from before it was ready", testWatchFresh},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

func testCreate(t *testing.T, s Store) {
	_, _, err := s.Get(t.Context(), dev("a"))
	wantCode(t, err, device.NotFound)
	rev := create(t, s, dev("a"), "one")
	wantRecord(t, s, dev("a"), "one", rev)
	_, err = s.Create(t.Context(), dev("a"), []byte("two"))
	wantCode(t, err, device.Conflict)
	wantRecord(t, s, dev("a"), "one", rev)
	create(t, s, device.ID{Tenant: "other", Device: "a"}, "theirs")
	wantRecord(t, s, dev("a"), "one", rev)
}

func testUpdate(t *testing.T, s Store) {
	_, err := s.Update(t.Context(), dev("a"), []byte("x"), 1)
	wantCode(t, err, device.Conflict)
	first := create(t, s, dev("a"), "one")
	second := update(t, s, dev("a"), "two", first)
	if second <= first {
		t.Errorf("revision went from %d to %d; it must rise", first, second)
	}
	_, err = s.Update(t.Context(), dev("a"), []byte("three"), first)
	wantCode(t, err, device.Conflict)
	wantRecord(t, s, dev("a"), "two", second)
}

func testDelete(t *testing.T, s Store) {
	wantCode(t, s.Delete(t.Context(), dev("a"), 1), device.Conflict)
	first := create(t, s, dev("a"), "one")
	second := update(t, s, dev("a"), "two", first)
	wantCode(t, s.Delete(t.Context(), dev("a"), first), device.Conflict)
	if err := s.Delete(t.Context(), dev("a"), second); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	_, _, err := s.Get(t.Context(), dev("a"))
	wantCode(t, err, device.NotFound)
	_, err = s.Update(t.Context(), dev("a"), []byte("x"), second)
	wantCode(t, err, device.Conflict)
	wantCode(t, s.Delete(t.Context(), dev("a"), second), device.Conflict)
	if names := list(t, s, "t", 10); len(names) != 0 {
		t.Errorf("a deleted record is listed: %q", names)
	}
	again := create(t, s, dev("a"), "anew")
	if again <= second {
		t.Errorf("made anew the revision went from %d to %d; it must rise", second, again)
	}
	wantRecord(t, s, dev("a"), "anew", again)
}

func testRace(t *testing.T, s Store) {
	rev := create(t, s, dev("a"), "start")
	const writers = 8
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() { _, errs[i] = s.Update(t.Context(), dev("a"), fmt.Append(nil, i), rev) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			wantCode(t, err, device.Conflict)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d writers of the same revision succeeded, want 1", won, writers)
	}
}

// awkward are names that a key of dots, stars or slashes would confuse.
var awkward = []string{
	"a", "A", "a.b", "a%2Eb", "a b", "*", ">", "a@b", "a=b", "_", "-", "%", "\\", "..", "ü", "日本", `"q"`, "a:b",
}

func testNames(t *testing.T, s Store) {
	for _, name := range awkward {
		create(t, s, dev(name), "value of "+name)
	}
	for _, name := range awkward {
		value, _, err := s.Get(t.Context(), dev(name))
		if err != nil || string(value) != "value of "+name {
			t.Errorf("record %q holds %q, %v", name, value, err)
		}
	}
	want := slices.Sorted(slices.Values(awkward))
	if got := list(t, s, "t", 7); !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	create(t, s, device.ID{Tenant: "t.a", Device: "x"}, "v")
	create(t, s, device.ID{Tenant: "*", Device: "y"}, "v")
	if got := list(t, s, "*", 100); !slices.Equal(got, []string{"y"}) {
		t.Errorf(`tenant "*" lists %q, want only its own "y"`, got)
	}
}

func testList(t *testing.T, s Store) {
	for i := range 25 {
		create(t, s, dev(fmt.Sprintf("d%02d", (i*7)%25)), "v")
	}
	create(t, s, device.ID{Tenant: "t2", Device: "d07x"}, "v")
	for _, limit := range []int{1, 10, 24, 25, 26, 1000} {
		all := list(t, s, "t", limit)
		if len(all) != 25 || all[0] != "d00" || all[24] != "d24" {
			t.Errorf("in pages of %d: %q", limit, all)
		}
	}
	if got := list(t, s, "nobody", 10); len(got) != 0 {
		t.Errorf("an empty tenant lists %q", got)
	}
	_, err := s.List(t.Context(), "t", "\xff no cursor", 10, func(device.ID, []byte, uint64) error { return nil })
	if err != nil {
		wantCode(t, err, device.Invalid) // taking it for a place in the listing is fine, too
	}
}

func testListChanging(t *testing.T, s Store) {
	for i := range 30 {
		create(t, s, dev(fmt.Sprintf("stays%02d", i)), "v")
	}
	gone := create(t, s, dev("goes"), "v")
	seen, pages := map[string]int{}, 0
	for cursor := ""; ; pages++ {
		next, err := s.List(t.Context(), "t", cursor, 4, func(id device.ID, _ []byte, _ uint64) error {
			seen[id.Device]++
			return nil
		})
		if err != nil || pages > 40 {
			t.Fatalf("page %d: %v", pages, err)
		}
		if pages == 2 {
			if err := s.Delete(t.Context(), dev("goes"), gone); err != nil {
				t.Fatal(err)
			}
		}
		create(t, s, dev(fmt.Sprintf("comes%02d", pages)), "v")
		if cursor = next; cursor == "" {
			break
		}
	}
	for i := range 30 {
		if name := fmt.Sprintf("stays%02d", i); seen[name] != 1 {
			t.Errorf("%s was listed %d times", name, seen[name])
		}
	}
}

func testNoTenant(t *testing.T, s Store) {
	key := device.ID{Device: device.KeyHash{1, 2, 3}.String()}
	seen, stop := watch(t, s)
	rev := create(t, s, key, "one")
	seen(t, key.String()+"=one")
	rev = update(t, s, key, "two", rev)
	seen(t, key.String()+"=two")
	wantRecord(t, s, key, "two", rev)
	create(t, s, dev("a"), "v")
	seen(t, "a@t=v")
	if got := list(t, s, "t", 10); !slices.Equal(got, []string{"a"}) {
		t.Errorf("listed %q", got)
	}
	stop(t)
}

func testListError(t *testing.T, s Store) {
	create(t, s, dev("a"), "v")
	create(t, s, dev("b"), "v")
	stop, calls := device.Errorf(device.Busy, "stop"), 0
	_, err := s.List(t.Context(), "t", "", 10, func(device.ID, []byte, uint64) error { calls++; return stop })
	if wantCode(t, err, device.Busy); calls != 1 {
		t.Errorf("each was called %d times after its error, want once", calls)
	}
}

func testAliasing(t *testing.T, s Store) {
	in := []byte("value")
	if _, err := s.Create(t.Context(), dev("a"), in); err != nil {
		t.Fatal(err)
	}
	in[0] = 'X'
	out, rev, err := s.Get(t.Context(), dev("a"))
	if err != nil || string(out) != "value" {
		t.Fatalf("Get answered %q, %v", out, err)
	}
	out[0] = 'Y'
	wantRecord(t, s, dev("a"), "value", rev)
}
