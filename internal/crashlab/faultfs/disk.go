package faultfs

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Names says when a name is durable; the package comment says it in full.
type Names int

// The models of names.
const (
	JournalNames Names = iota // with an fsync of the file, or of its directory
	StrictNames               // with an fsync of its directory only
)

// Disk is what a mount shows, and what survives it. It may be mounted, cut and
// mounted again as often as one likes.
type Disk struct {
	names Names

	mu      sync.Mutex
	root    *inode
	lastID  uint64
	last    uint64   // sequence of the newest entry of the journal
	journal []entry  // names changed and not durable yet, oldest first
	faults  []*fault // fault.go
	limits  []*limit
	syncs   uint64 // syncs that were answered well
}

// inode is a file, a directory or a symbolic link.
type inode struct {
	id       uint64
	mode     uint32 // type and permissions
	links    int    // names it has now
	modified time.Time
	*content                   // of a file
	target   string            // of a symbolic link
	names    map[string]*inode // of a directory: as it reads
	durable  map[string]*inode // of a directory: as a cut finds it
	parent   *inode            // the directory that names it, or did last
	name     string
	changed  uint64 // the newest entry of the journal that concerns it
}

func (n *inode) dir() bool { return n.mode&syscall.S_IFMT == syscall.S_IFDIR }

// change is one name that means another inode now, or none.
type change struct {
	dir  *inode
	name string
	to   *inode
}

// entry is one call's changes: all of them become durable, or none.
type entry struct {
	seq     uint64
	changes []change
}

// New makes an empty disk.
func New(names Names) *Disk {
	d := &Disk{names: names}
	d.root = d.inode(syscall.S_IFDIR | 0o755)
	d.root.links = 1
	return d
}

func (d *Disk) inode(mode uint32) *inode {
	d.lastID++
	n := &inode{id: d.lastID, mode: mode, modified: time.Now()}
	if n.dir() {
		n.names, n.durable = map[string]*inode{}, map[string]*inode{}
	} else {
		n.content = newContent()
	}
	return n
}

// note enters the changes of one call in the journal, and makes them as they read.
func (d *Disk) note(changes ...change) {
	d.last++
	for _, c := range changes {
		if old := c.dir.names[c.name]; old != nil {
			old.links--
			old.changed = d.last
		}
		if c.dir.changed, c.dir.modified = d.last, time.Now(); c.to == nil {
			delete(c.dir.names, c.name)
			continue
		}
		c.dir.names[c.name] = c.to
		c.to.links++
		c.to.parent, c.to.name, c.to.changed = c.dir, c.name, d.last
	}
	d.journal = append(d.journal, entry{d.last, changes})
}

// commit makes those entries of the journal durable that are wanted, in order.
func (d *Disk) commit(wanted func(entry) bool) {
	var rest []entry
	for _, e := range d.journal {
		if !wanted(e) {
			rest = append(rest, e)
			continue
		}
		for _, c := range e.changes {
			if c.to == nil {
				delete(c.dir.durable, c.name)
			} else {
				c.dir.durable[c.name] = c.to
			}
			rest = forget(rest, c)
		}
	}
	d.journal = rest
}

// forget takes older changes of the same name out of entries that stay behind:
// they are overtaken.
func forget(rest []entry, c change) []entry {
	for i := range rest {
		rest[i].changes = slices.DeleteFunc(slices.Clone(rest[i].changes), func(o change) bool { return o.dir == c.dir && o.name == c.name })
	}
	return slices.DeleteFunc(rest, func(e entry) bool { return len(e.changes) == 0 })
}

// sync is fsync and fdatasync: the bytes of a file, and the names that go with it.
func (d *Disk) sync(n *inode) {
	d.syncs++
	if n.content != nil {
		n.content.sync()
	}
	switch {
	case d.names == JournalNames:
		d.commit(func(e entry) bool { return e.seq <= n.changed })
	case n.dir():
		d.commit(func(e entry) bool { return slices.ContainsFunc(e.changes, func(c change) bool { return c.dir == n }) })
	}
}

// Sync makes everything durable, as sync(2) does and as time does.
func (d *Disk) Sync() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.commit(func(entry) bool { return true })
	d.root.syncAll()
}

func (n *inode) syncAll() {
	if n.content != nil {
		n.content.sync()
	}
	for _, child := range n.names {
		child.syncAll()
	}
}

// Syncs is how many syncs were answered well.
func (d *Disk) Syncs() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncs
}

// Export writes what reads now to a directory of the host, to be looked at.
func (d *Disk) Export(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.root.export(dir)
}

func (n *inode) export(path string) error {
	if n.mode&syscall.S_IFMT == syscall.S_IFLNK {
		return os.Symlink(n.target, path)
	}
	if !n.dir() {
		raw := make([]byte, n.size)
		n.read(raw, 0)
		return os.WriteFile(path, raw, fs.FileMode(n.mode&0o777))
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		if err := n.names[name].export(filepath.Join(path, name)); err != nil {
			return err
		}
	}
	return nil
}
