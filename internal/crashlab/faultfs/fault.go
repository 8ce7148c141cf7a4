package faultfs

import (
	"path"
	"strings"
	"syscall"
)

// Fault makes calls fail, from the one after Skip on, until Heal.
type Fault struct {
	Under string        // of files in this directory or below, relative to the root; "": of all
	Write bool          // writes, and what makes, renames or removes names
	Sync  bool          // fsync and fdatasync, and the writes of descriptors that sync
	Errno syscall.Errno // what they fail with
	Skip  int           // calls that succeed first
}

type fault struct {
	Fault
	left int
	hits int
}

// limit is how many bytes files below a directory may still grow.
type limit struct {
	under  string
	left   int64
	hidden bool // statfs does not know
	hits   int
}

// capacity is what the disk has room for, by what statfs says, unless limited.
const capacity = 64 << 30

// Inject makes calls fail. Several faults may be there at once.
func (d *Disk) Inject(f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, &fault{Fault: f, left: f.Skip})
}

// Limit fills the disk: files below a directory may grow by so many bytes
// together, then writes fail with ENOSPC. What is removed makes room.
func (d *Disk) Limit(under string, bytes int64) { d.limit(under, bytes, false) }

// Quota is Limit without statfs telling of it, as with quotas and thin volumes:
// who looks for free space first is surprised.
func (d *Disk) Quota(under string, bytes int64) { d.limit(under, bytes, true) }

func (d *Disk) limit(under string, bytes int64, hidden bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limits = append(d.limits, &limit{under: under, left: bytes, hidden: hidden})
}

// Heal takes all faults and limits away, and answers how many calls they made fail.
func (d *Disk) Heal() (hits int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	hits = d.hits()
	d.faults, d.limits = nil, nil
	return hits
}

// Hits is how many calls the present faults and limits made fail.
func (d *Disk) Hits() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hits()
}

func (d *Disk) hits() (n int) {
	for _, f := range d.faults {
		n += f.hits
	}
	for _, l := range d.limits {
		n += l.hits
	}
	return n
}

// below says whether an inode is in a directory given by its path.
func below(n *inode, under string) bool {
	if under == "" {
		return true
	}
	where := ""
	for ; n.parent != nil; n = n.parent {
		where = path.Join(n.name, where)
	}
	return where == under || strings.HasPrefix(where, under+"/")
}

// refuse is the error of a call, 0 for none.
func (d *Disk) refuse(n *inode, sync bool) syscall.Errno {
	for _, f := range d.faults {
		if sync && !f.Sync || !sync && !f.Write || !below(n, f.Under) {
			continue
		}
		if f.left > 0 {
			f.left--
			continue
		}
		f.hits++
		return f.Errno
	}
	return 0
}

// grow takes pages from the limits, or says ENOSPC; a negative number gives back.
func (d *Disk) grow(n *inode, pages int64) syscall.Errno {
	bytes := pages * pageSize
	for _, l := range d.limits {
		if bytes > 0 && below(n, l.under) && bytes > l.left {
			l.hits++
			return syscall.ENOSPC
		}
	}
	for _, l := range d.limits {
		if below(n, l.under) {
			l.left -= bytes
		}
	}
	return 0
}

// room is how many bytes files below n may still grow, as far as statfs tells.
func (d *Disk) room(n *inode) int64 {
	left := int64(capacity)
	for _, l := range d.limits {
		if !l.hidden && below(n, l.under) {
			left = min(left, max(l.left, 0))
		}
	}
	return left
}
