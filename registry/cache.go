package registry

import (
	"container/list"
	"sync"

	"github.com/tributary-iot/tributary/device"
)

// cache remembers principals, and names that are nobody's, up to a bound each,
// least recently used first out. Unknown names have their own, smaller bound:
// a peer that tries names cannot push the real devices out.
//
// It holds something only while the one watcher runs, which drops what changes.
// A record read from the Store before a change and put after it would stay
// stale for good; generation prevents that: put is ignored when anything
// changed since the reader began.
type cache struct {
	mu         sync.Mutex
	watching   bool
	generation uint64
	known      lru
	unknown    lru
}

func newCache(size int) *cache {
	return &cache{known: newLRU(size), unknown: newLRU(size/8 + 1)}
}

// get answers a cached principal (nil for a cached unknown name), whether it
// was there, and the generation to hand to put when it was not.
func (c *cache) get(id device.ID) (p *principal, found bool, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, found = c.known.get(id); found {
		return p, true, c.generation
	}
	_, found = c.unknown.get(id)
	return nil, found, c.generation
}

// put remembers what the Store answered: nil for an unknown name.
func (c *cache) put(id device.ID, p *principal, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.watching || generation != c.generation:
	case p == nil:
		c.unknown.put(id, nil)
	default:
		c.known.put(id, p)
	}
}

// drop forgets one name, because its record changed.
func (c *cache) drop(id device.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.known.remove(id)
	c.unknown.remove(id)
}

// watch starts or stops the cache; what it held before is forgotten.
func (c *cache) watch(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.watching = on
	c.known.clear()
	c.unknown.clear()
}

func (c *cache) isWatching() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.watching
}

func (c *cache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known.order.Len() + c.unknown.order.Len()
}

// lru is a bounded map. It is not safe for concurrent use.
type lru struct {
	size  int
	items map[device.ID]*list.Element
	order *list.List // of *lruItem, most recently used first
}

type lruItem struct {
	id device.ID
	p  *principal
}

func newLRU(size int) lru {
	return lru{size: size, items: make(map[device.ID]*list.Element), order: list.New()}
}

func (l *lru) get(id device.ID) (*principal, bool) {
	e, ok := l.items[id]
	if !ok {
		return nil, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*lruItem).p, true
}

func (l *lru) put(id device.ID, p *principal) {
	l.remove(id)
	l.items[id] = l.order.PushFront(&lruItem{id, p})
	if l.order.Len() > l.size {
		l.remove(l.order.Back().Value.(*lruItem).id)
	}
}

func (l *lru) remove(id device.ID) {
	if e, ok := l.items[id]; ok {
		delete(l.items, id)
		l.order.Remove(e)
	}
}

func (l *lru) clear() {
	clear(l.items)
	l.order.Init()
}
