// Package keyed has a map that keeps no keys: each value knows its own. Where keys
// are several strings and values one pointer, that is most of what a map takes.
package keyed

import (
	"hash/maphash"
	"iter"
)

// Map finds values by their key. It is not safe for concurrent use.
type Map[K comparable, V any] struct {
	key    func(*V) K
	hash   func(K) uint64
	byHash map[uint64]*V
	others map[K]*V // whose hash another's is, too: next to never any
}

// New makes a Map. key answers the key of a value, always the same one.
func New[K comparable, V any](key func(*V) K) *Map[K, V] {
	seed := maphash.MakeSeed()
	return &Map[K, V]{
		key: key, hash: func(k K) uint64 { return maphash.Comparable(seed, k) },
		byHash: map[uint64]*V{}, others: map[K]*V{},
	}
}

// Get answers the value with a key; nil when there is none.
func (m *Map[K, V]) Get(k K) *V {
	if v := m.byHash[m.hash(k)]; v != nil && m.key(v) == k {
		return v
	}
	if len(m.others) == 0 {
		return nil
	}
	return m.others[k]
}

// Put enters a value in the place of the one with its key.
func (m *Map[K, V]) Put(v *V) {
	k := m.key(v)
	h := m.hash(k)
	if old := m.byHash[h]; old != nil && m.key(old) != k {
		m.others[k] = v
		return
	}
	delete(m.others, k)
	m.byHash[h] = v
}

// Delete removes the value with a key, if there is one.
func (m *Map[K, V]) Delete(k K) {
	h := m.hash(k)
	if v := m.byHash[h]; v != nil && m.key(v) == k {
		delete(m.byHash, h)
		return
	}
	delete(m.others, k)
}

// Len is how many values there are.
func (m *Map[K, V]) Len() int { return len(m.byHash) + len(m.others) }

// All goes through the values in no order; during that they may be deleted.
func (m *Map[K, V]) All() iter.Seq[*V] {
	return func(yield func(*V) bool) {
		for _, v := range m.byHash {
			if !yield(v) {
				return
			}
		}
		for _, v := range m.others {
			if !yield(v) {
				return
			}
		}
	}
}
