package faultfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

const (
	pageSize   = 4096
	sectorSize = 512
)

type page [pageSize]byte

// content is the bytes of a file, twice: as they read, and as a cut would find
// them. A page is shared by the two until it is written.
type content struct {
	now, kept      []*page // nil: zeros
	size, keptSize int64
	dirty          map[int]bool // the pages of now that the next sync writes
	shrunk         int64        // the least size since the last sync; -1: it was not made shorter
}

func newContent() *content { return &content{dirty: map[int]bool{}, shrunk: -1} }

// pages is how many pages hold size bytes.
func pages(size int64) int { return int((size + pageSize - 1) / pageSize) }

// at is page i of a list, nil when there is none.
func at(list []*page, i int) *page {
	if i < len(list) {
		return list[i]
	}
	return nil
}

// put makes p page i of a list.
func put(list []*page, i int, p *page) []*page {
	for len(list) <= i {
		list = append(list, nil)
	}
	list[i] = p
	return list
}

// read fills dst from off on and answers how much there was.
func (c *content) read(dst []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	dst = dst[:min(int64(len(dst)), c.size-off)]
	for done := 0; done < len(dst); {
		i, from := int((off+int64(done))/pageSize), int((off+int64(done))%pageSize)
		n := min(len(dst)-done, pageSize-from)
		if p := at(c.now, i); p != nil {
			copy(dst[done:done+n], p[from:])
		} else {
			clear(dst[done : done+n])
		}
		done += n
	}
	return len(dst)
}

// fresh is how many pages a write would add.
func (c *content) fresh(length int, off int64) (n int64) {
	for i := int(off / pageSize); i < pages(off+int64(length)); i++ {
		if at(c.now, i) == nil {
			n++
		}
	}
	return n
}

func (c *content) write(src []byte, off int64) {
	for done := 0; done < len(src); {
		i, from := int((off+int64(done))/pageSize), int((off+int64(done))%pageSize)
		done += copy(c.own(i)[from:], src[done:])
	}
	c.size = max(c.size, off+int64(len(src)))
}

// own is page i, not shared with what is kept, and to be synced.
func (c *content) own(i int) *page {
	p := at(c.now, i)
	switch {
	case p == nil:
		p = &page{}
	case p == at(c.kept, i):
		p = new(*p)
	}
	c.now, c.dirty[i] = put(c.now, i, p), true
	return p
}

// truncate answers how many pages went.
func (c *content) truncate(size int64) (freed int64) {
	if size < c.size {
		if c.shrunk < 0 || size < c.shrunk {
			c.shrunk = size
		}
		for i := pages(size); i < len(c.now); i++ {
			if c.now[i] != nil {
				freed++
			}
			delete(c.dirty, i)
		}
		c.now = c.now[:min(len(c.now), pages(size))]
		if tail := size % pageSize; tail != 0 && at(c.now, pages(size)-1) != nil {
			clear(c.own(pages(size) - 1)[tail:])
		}
	}
	c.size = size
	return freed
}

// shorten cuts a list of pages to size.
func shorten(list []*page, size int64) []*page {
	list = list[:min(len(list), pages(size))]
	if last := pages(size) - 1; size%pageSize != 0 && at(list, last) != nil {
		p := new(*list[last])
		clear(p[size%pageSize:])
		list[last] = p
	}
	return list
}

// sync keeps what was written since the last one.
func (c *content) sync() {
	if c.shrunk >= 0 {
		c.kept = shorten(slices.Clone(c.kept), c.shrunk)
	}
	for i := range c.dirty {
		c.kept = put(c.kept, i, c.now[i])
	}
	c.keptSize, c.shrunk = c.size, -1
	clear(c.dirty)
}

// fail is a sync that did not reach the disk: nothing is kept, and nothing is
// left to be written by the next.
func (c *content) fail() { clear(c.dirty) }

// survivor is what a power cut leaves. Without rng that is what was synced, and
// nothing else.
func (c *content) survivor(rng *rand.Rand, r *Report) *content {
	list, size, unsynced := slices.Clone(c.kept), c.keptSize, slices.Sorted(maps.Keys(c.dirty))
	if rng != nil && c.shrunk >= 0 {
		if rng.IntN(2) == 0 {
			list, size = shorten(list, c.shrunk), min(size, c.shrunk)
		} else { // the old blocks are back, and new bytes were not written to them
			unsynced = slices.DeleteFunc(unsynced, func(i int) bool { return int64(i+1)*pageSize > c.shrunk })
		}
	}
	r.Unsynced += len(c.dirty)
	for _, i := range unsynced {
		fate := 0
		if rng != nil {
			fate = rng.IntN(4)
		}
		switch fate {
		case 0:
			continue
		case 1:
			list = put(list, i, tear(rng, at(list, i), c.now[i]))
			r.Torn++
		default:
			list = put(list, i, c.now[i])
			r.Kept++
		}
		size = max(size, min(int64(i+1)*pageSize, c.size))
	}
	return &content{now: list, kept: slices.Clone(list), size: size, keptSize: size, dirty: map[int]bool{}, shrunk: -1}
}

// tear makes a page of sectors of both.
func tear(rng *rand.Rand, old, written *page) *page {
	torn := page{}
	if old != nil {
		torn = *old
	}
	for s := 0; s < pageSize; s += sectorSize {
		if rng.IntN(2) == 0 {
			copy(torn[s:s+sectorSize], written[s:])
		}
	}
	return &torn
}
