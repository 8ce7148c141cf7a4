package faultfs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
)

// Report says what a cut took away.
type Report struct {
	Unsynced   int // pages that were written and not synced
	Kept, Torn int // of them
	Names      int // entries of the journal that were not durable
	KeptNames  int // of them
}

func (r Report) String() string {
	return fmt.Sprintf("%d unsynced pages, %d kept and %d torn; %d names not durable, %d kept", r.Unsynced, r.Kept, r.Torn, r.Names, r.KeptNames)
}

// Cut is a power cut: afterwards the disk holds what was durable, and of the
// rest nothing (rng is nil) or a part that rng chooses, the same for the same
// calls before. Unmount it first.
func (d *Disk) Cut(rng *rand.Rand) (r Report) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Names = len(d.journal); rng != nil && r.Names > 0 {
		r.KeptNames = rng.IntN(r.Names + 1)
		if r.KeptNames > 0 {
			upTo := d.journal[r.KeptNames-1].seq
			d.commit(func(e entry) bool { return e.seq <= upTo })
		}
	}
	d.journal = nil
	d.settle(d.root, rng, &r, map[*inode]bool{})
	return r
}

// settle makes a directory and what is below it what a cut finds, in the order
// of names, so that the same seed takes the same away.
func (d *Disk) settle(n *inode, rng *rand.Rand, r *Report, seen map[*inode]bool) {
	if n.links++; seen[n] {
		return
	}
	seen[n], n.links = true, 1
	if !n.dir() {
		n.cut(rng, r)
		return
	}
	n.names = maps.Clone(n.durable)
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		child := n.names[name]
		child.parent, child.name = n, name
		d.settle(child, rng, r, seen)
	}
}
