package command

import (
	"slices"
)

// order lists entries by a sequence. They come almost in order and go anywhere;
// the gone are skipped and cleared away when they are the greater part.
type order struct {
	by      func(*entry) uint64
	entries []*entry
	dead    int
}

func (o *order) add(e *entry) {
	at := len(o.entries)
	for at > 0 && o.by(o.entries[at-1]) > o.by(e) {
		at--
	}
	o.entries = slices.Insert(o.entries, at, e)
}

func (o *order) dropped() {
	if o.dead++; o.dead > 64 && o.dead > len(o.entries)/2 {
		o.entries = slices.DeleteFunc(o.entries, func(e *entry) bool { return e.gone })
		o.dead = 0
	}
}

// first is the lowest sequence of an entry that is not skipped; ok is false
// when there is none.
func (o *order) first(skip func(*entry) bool) (seq uint64, ok bool) {
	for _, e := range o.entries {
		if !e.gone && !skip(e) {
			return o.by(e), true
		}
	}
	return 0, false
}

// dueHeap orders the waiting commands by their next deadline.
type dueHeap []*entry

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = int32(i), int32(j)
}
func (h *dueHeap) Push(x any) {
	e := x.(*entry)
	e.index = int32(len(*h))
	*h = append(*h, e)
}
func (h *dueHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.index = -1
	return e
}
