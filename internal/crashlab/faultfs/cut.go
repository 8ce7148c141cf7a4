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
// calls before. Unmount it first. Who has a file of an older mount open even so
// holds something that is on no disk any more.
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
	d.root = d.root.survivor(rng, &r, map[*inode]*inode{})
	return r
}

// survivor is what a cut leaves of an inode and of what is below it, in the
// order of names, so that the same seed takes the same away.
func (n *inode) survivor(rng *rand.Rand, r *Report, seen map[*inode]*inode) *inode {
	if s := seen[n]; s != nil {
		s.links++
		return s
	}
	s := &inode{id: n.id, mode: n.mode, links: 1, modified: n.modified, target: n.target}
	seen[n] = s
	if !n.dir() {
		s.content = n.content.survivor(rng, r)
		return s
	}
	s.names = map[string]*inode{}
	for _, name := range slices.Sorted(maps.Keys(n.durable)) {
		child := n.durable[name].survivor(rng, r, seen)
		child.parent, child.name = s, name
		s.names[name] = child
	}
	s.durable = maps.Clone(s.names)
	return s
}
