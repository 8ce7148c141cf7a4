package topic

import (
	"strings"
	"sync"

	"github.com/tributary-iot/tributary/device"
)

// subscription is one filter of one member. It is not changed once it is in the
// tree; another takes its place.
type subscription struct {
	device.Subscription
	member *member
	share  *share          // of a shared one, which is in no tree
	since  [sources]uint64 // nothing at or before it is this subscription's
	replay replay          // of retained messages
}

// tree finds the subscriptions that take a topic: a level of a filter is a step
// down. It is safe for use from any goroutine.
type tree struct {
	mu   sync.RWMutex
	root node
}

type node struct {
	below map[string]*node // by level, "+" among them
	here  []*subscription  // of filters that end here
	rest  []*subscription  // of filters that end here with "#"
}

func (n *node) empty() bool { return len(n.below)+len(n.here)+len(n.rest) == 0 }

// put enters a subscription in the place of old, if that is not nil.
func (t *tree) put(s, old *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old != nil {
		t.root.remove(old.Filter, old)
	}
	n, rest, more := &t.root, s.Filter, true
	for more {
		var level string
		if level, rest, more = strings.Cut(rest, "/"); level == "#" {
			n.rest = append(n.rest, s)
			return
		}
		next := n.below[level]
		if next == nil {
			next = &node{}
			if n.below == nil {
				n.below = map[string]*node{}
			}
			n.below[level] = next
		}
		n = next
	}
	n.here = append(n.here, s)
}

func (t *tree) remove(s *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.root.remove(s.Filter, s)
}

func (n *node) remove(filter string, s *subscription) {
	level, rest, more := strings.Cut(filter, "/")
	if level == "#" {
		n.rest = without(n.rest, s)
		return
	}
	next := n.below[level]
	switch {
	case next == nil:
		return
	case more:
		next.remove(rest, s)
	default:
		next.here = without(next.here, s)
	}
	if next.empty() {
		delete(n.below, level)
	}
}

func without[T any](all []*T, one *T) []*T {
	for i := range all {
		if all[i] == one {
			last := len(all) - 1
			all[i], all[last] = all[last], nil
			return all[:last]
		}
	}
	return all
}

// match appends to into every subscription that takes the topic.
func (t *tree) match(topic string, into []*subscription) []*subscription {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.root.match(topic, into)
}

func (n *node) match(topic string, into []*subscription) []*subscription {
	into = append(into, n.rest...)
	level, rest, more := strings.Cut(topic, "/")
	for _, next := range [2]*node{n.below[level], n.below["+"]} {
		switch {
		case next == nil:
		case more:
			into = next.match(rest, into)
		default:
			into = append(append(into, next.here...), next.rest...)
		}
	}
	return into
}
