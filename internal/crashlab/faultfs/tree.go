package faultfs

import (
	"syscall"
	"time"
)

// The calls that the kernel makes, one at a time: each answers what a local
// filesystem would.

// create enters a new inode in dir; target is that of a symbolic link.
func (d *Disk) create(dir *inode, name string, mode uint32, target string) (*inode, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dir.names[name] != nil {
		return nil, syscall.EEXIST
	}
	if errno := d.refuse(dir, false); errno != 0 {
		return nil, errno
	}
	n := d.inode(mode)
	n.target = target
	d.note(change{dir, name, n})
	return n, 0
}

func (d *Disk) lookup(dir *inode, name string) (*inode, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := dir.names[name]; n != nil {
		return n, 0
	}
	return nil, syscall.ENOENT
}

func (d *Disk) link(dir *inode, name string, n *inode) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dir.names[name] != nil {
		return syscall.EEXIST
	}
	if errno := d.refuse(dir, false); errno != 0 {
		return errno
	}
	d.note(change{dir, name, n})
	return 0
}

// remove is unlink, or rmdir when asked for a directory.
func (d *Disk) remove(dir *inode, name string, directory bool) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := dir.names[name]
	switch {
	case n == nil:
		return syscall.ENOENT
	case n.dir() && !directory:
		return syscall.EISDIR
	case !n.dir() && directory:
		return syscall.ENOTDIR
	case len(n.names) > 0:
		return syscall.ENOTEMPTY
	}
	if errno := d.refuse(dir, false); errno != 0 {
		return errno
	}
	d.note(change{dir, name, nil})
	d.release(n)
	return 0
}

// release gives the room of a file back that has no name any more.
func (d *Disk) release(n *inode) {
	if n.dir() || n.links > 0 {
		return
	}
	held := int64(0)
	for _, p := range n.now {
		if p != nil {
			held++
		}
	}
	d.grow(n, -held)
}

func (d *Disk) rename(from *inode, name string, to *inode, newName string, flags uint32) syscall.Errno {
	const noReplace = 1
	d.mu.Lock()
	defer d.mu.Unlock()
	n, old := from.names[name], to.names[newName]
	switch {
	case flags&^noReplace != 0:
		return syscall.EINVAL
	case n == nil:
		return syscall.ENOENT
	case old == n:
		return 0
	case old == nil:
	case flags&noReplace != 0:
		return syscall.EEXIST
	case old.dir() != n.dir():
		return map[bool]syscall.Errno{true: syscall.EISDIR, false: syscall.ENOTDIR}[old.dir()]
	case len(old.names) > 0:
		return syscall.ENOTEMPTY
	}
	if errno := d.refuse(from, false); errno != 0 {
		return errno
	}
	d.note(change{from, name, nil}, change{to, newName, n})
	if old != nil {
		d.release(old)
	}
	return 0
}

func (d *Disk) write(n *inode, src []byte, off int64) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if errno := d.refuse(n, false); errno != 0 {
		return errno
	}
	if errno := d.grow(n, n.fresh(len(src), off)); errno != 0 {
		return errno
	}
	n.write(src, off)
	n.modified = time.Now()
	return 0
}

func (d *Disk) truncate(n *inode, size int64) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n.dir() {
		return syscall.EISDIR
	}
	if errno := d.refuse(n, false); errno != 0 {
		return errno
	}
	d.grow(n, -n.truncate(size))
	n.modified = time.Now()
	return 0
}

func (d *Disk) fsync(n *inode) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if errno := d.refuse(n, true); errno != 0 {
		if n.content != nil {
			n.content.fail()
		}
		return errno
	}
	d.sync(n)
	return 0
}
