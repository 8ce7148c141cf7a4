package keyed

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

type value struct{ tenant, name, text string }

type key struct{ tenant, name string }

func keyOf(v *value) key { return key{v.tenant, v.name} }

// TestLikeAMap: whatever is put and deleted, it is what a plain map would be, also
// when many keys have the same hash, or all.
func TestLikeAMap(t *testing.T) {
	for name, hash := range map[string]func(key) uint64{
		"good hashes": nil,
		"few hashes":  func(k key) uint64 { return uint64(len(k.name)) },
		"one hash":    func(key) uint64 { return 0 },
	} {
		t.Run(name, func(t *testing.T) {
			m, plain := New(keyOf), map[key]*value{}
			if hash != nil {
				m.hash = hash
			}
			random := rand.New(rand.NewPCG(1, 2))
			for i := range 20_000 {
				k := key{"t" + strconv.Itoa(random.IntN(2)), strconv.Itoa(random.IntN(200))}
				if random.IntN(2) == 0 {
					m.Delete(k)
					delete(plain, k)
				} else {
					v := &value{k.tenant, k.name, strconv.Itoa(i)}
					m.Put(v)
					plain[k] = v
				}
				k.name = strconv.Itoa(random.IntN(200))
				if m.Get(k) != plain[k] || m.Len() != len(plain) {
					t.Fatalf("after %d changes: %v has %v of %d, want %v of %d", i+1, k, m.Get(k), m.Len(), plain[k], len(plain))
				}
			}
			all := map[key]*value{}
			for v := range m.All() {
				all[keyOf(v)] = v
			}
			if !maps.Equal(all, plain) {
				t.Errorf("All answers %d values, want those of the map, %d", len(all), len(plain))
			}
		})
	}
}

// TestDeletedMeanwhile: values may be deleted while All goes through them.
func TestDeletedMeanwhile(t *testing.T) {
	m := New(keyOf)
	for i := range 100 {
		m.Put(&value{name: strconv.Itoa(i)})
	}
	for v := range m.All() {
		m.Delete(keyOf(v))
	}
	if left := slices.Collect(m.All()); len(left) != 0 || m.Len() != 0 {
		t.Errorf("%d values are left", len(left))
	}
}
