package faultfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Mount is a disk that can be used, below a directory of the host.
type Mount struct {
	dir    string
	server *fuse.Server
}

// Mount shows the disk at dir, an empty directory, until Unmount. It takes root,
// or whoever else may mount, and /dev/fuse.
//
// The kernel's page cache lies above the disk as above any other; writes go
// through it at once, what is written by mmap when the kernel likes to or the
// file is synced.
//
// Do not map files of the mount into the memory of the process that mounts it:
// a page fault there can wait for a goroutine that waits for the fault.
func (d *Disk) Mount(dir string) (*Mount, error) {
	forever := time.Hour // nobody changes anything behind the kernel's back
	options := &fs.Options{
		EntryTimeout: &forever, AttrTimeout: &forever, RootStableAttr: &fs.StableAttr{Ino: d.root.id},
		MountOptions: fuse.MountOptions{
			DirectMountStrict: true, FsName: "faultfs", Name: "faultfs", DisableXAttrs: true, MaxWrite: 1 << 20,
			Logger: log.New(io.Discard, "", 0), // it tells of every unmount
		},
	}
	server, err := fs.Mount(dir, &node{disk: d, inode: d.root}, options)
	if err != nil {
		return nil, fmt.Errorf("faultfs: mount at %s: %w (it takes root and /dev/fuse)", dir, err)
	}
	return &Mount{dir, server}, nil
}

// Unmount ends the mount. While a process has a file of it open that is an error.
// What the kernel still held of mmaps has reached the disk when it returns, as
// writes that nobody synced.
func (m *Mount) Unmount() error {
	if err := syscall.Unmount(m.dir, 0); err != nil {
		return fmt.Errorf("faultfs: unmount %s: %w", m.dir, err)
	}
	m.server.Wait()
	return nil
}

// Detach ends the mount whoever uses it, for the end of a program.
func (m *Mount) Detach() error {
	err := syscall.Unmount(m.dir, syscall.MNT_DETACH)
	if errors.Is(err, syscall.EINVAL) {
		return nil // it is gone
	}
	return err
}

// node is an inode as the kernel's calls reach it.
type node struct {
	fs.Inode
	disk  *Disk
	inode *inode
}

var (
	_ fs.NodeLookuper   = (*node)(nil)
	_ fs.NodeGetattrer  = (*node)(nil)
	_ fs.NodeSetattrer  = (*node)(nil)
	_ fs.NodeReaddirer  = (*node)(nil)
	_ fs.NodeCreater    = (*node)(nil)
	_ fs.NodeMkdirer    = (*node)(nil)
	_ fs.NodeUnlinker   = (*node)(nil)
	_ fs.NodeRmdirer    = (*node)(nil)
	_ fs.NodeRenamer    = (*node)(nil)
	_ fs.NodeLinker     = (*node)(nil)
	_ fs.NodeSymlinker  = (*node)(nil)
	_ fs.NodeReadlinker = (*node)(nil)
	_ fs.NodeOpener     = (*node)(nil)
	_ fs.NodeReader     = (*node)(nil)
	_ fs.NodeWriter     = (*node)(nil)
	_ fs.NodeFsyncer    = (*node)(nil)
	_ fs.NodeStatfser   = (*node)(nil)
)

// child is n as the kernel is told of it.
func (f *node) child(ctx context.Context, n *inode, out *fuse.EntryOut) *fs.Inode {
	f.disk.attributes(n, &out.Attr)
	return f.NewInode(ctx, &node{disk: f.disk, inode: n}, fs.StableAttr{Mode: n.mode & syscall.S_IFMT, Ino: n.id})
}

func (d *Disk) attributes(n *inode, out *fuse.Attr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out.Ino, out.Mode, out.Nlink, out.Blksize = n.id, n.mode, uint32(max(n.links, 0)), pageSize
	if n.target != "" {
		out.Size = uint64(len(n.target))
	} else if n.content != nil {
		out.Size, out.Blocks = uint64(n.size), uint64(pages(n.size))*pageSize/512
	}
	out.SetTimes(&n.modified, &n.modified, &n.modified)
}

// Lookup implements fs.NodeLookuper.
func (f *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n, errno := f.disk.lookup(f.inode, name)
	if errno != 0 {
		return nil, errno
	}
	return f.child(ctx, n, out), 0
}

// Getattr implements fs.NodeGetattrer.
func (f *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.disk.attributes(f.inode, &out.Attr)
	return 0
}

// Setattr implements fs.NodeSetattrer: sizes, permissions and times.
func (f *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		if errno := f.disk.truncate(f.inode, int64(size)); errno != 0 {
			return errno
		}
	}
	f.disk.mu.Lock()
	if mode, ok := in.GetMode(); ok {
		f.inode.mode = f.inode.mode&syscall.S_IFMT | mode&0o7777
	}
	if modified, ok := in.GetMTime(); ok {
		f.inode.modified = modified
	}
	f.disk.mu.Unlock()
	f.disk.attributes(f.inode, &out.Attr)
	return 0
}

// Readdir implements fs.NodeReaddirer.
func (f *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	var list []fuse.DirEntry
	for _, name := range slices.Sorted(maps.Keys(f.inode.names)) {
		n := f.inode.names[name]
		list = append(list, fuse.DirEntry{Name: name, Mode: n.mode, Ino: n.id})
	}
	return fs.NewListDirStream(list), 0
}

// Create implements fs.NodeCreater.
func (f *node) Create(ctx context.Context, name string, _ uint32, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	n, errno := f.disk.create(f.inode, name, syscall.S_IFREG|mode&0o7777, "")
	if errno != 0 {
		return nil, nil, 0, errno
	}
	return f.child(ctx, n, out), nil, fuse.FOPEN_KEEP_CACHE, 0
}

// Mkdir implements fs.NodeMkdirer.
func (f *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n, errno := f.disk.create(f.inode, name, syscall.S_IFDIR|mode&0o7777, "")
	if errno != 0 {
		return nil, errno
	}
	return f.child(ctx, n, out), 0
}

// Symlink implements fs.NodeSymlinker.
func (f *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n, errno := f.disk.create(f.inode, name, syscall.S_IFLNK|0o777, target)
	if errno != 0 {
		return nil, errno
	}
	return f.child(ctx, n, out), 0
}

// Readlink implements fs.NodeReadlinker.
func (f *node) Readlink(context.Context) ([]byte, syscall.Errno) {
	return []byte(f.inode.target), 0
}

// Unlink implements fs.NodeUnlinker.
func (f *node) Unlink(_ context.Context, name string) syscall.Errno {
	return f.disk.remove(f.inode, name, false)
}

// Rmdir implements fs.NodeRmdirer.
func (f *node) Rmdir(_ context.Context, name string) syscall.Errno {
	return f.disk.remove(f.inode, name, true)
}

// Rename implements fs.NodeRenamer.
func (f *node) Rename(_ context.Context, name string, to fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	return f.disk.rename(f.inode, name, to.(*node).inode, newName, flags)
}

// Link implements fs.NodeLinker.
func (f *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n := target.(*node).inode
	if errno := f.disk.link(f.inode, name, n); errno != 0 {
		return nil, errno
	}
	return f.child(ctx, n, out), 0
}

// Open implements fs.NodeOpener. The kernel's cache is never older than the disk.
func (f *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_TRUNC != 0 {
		if errno := f.disk.truncate(f.inode, 0); errno != 0 {
			return nil, 0, errno
		}
	}
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

// Read implements fs.NodeReader.
func (f *node) Read(_ context.Context, _ fs.FileHandle, dst []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return fuse.ReadResultData(dst[:f.inode.read(dst, off)]), 0
}

// Write implements fs.NodeWriter.
func (f *node) Write(_ context.Context, _ fs.FileHandle, src []byte, off int64) (uint32, syscall.Errno) {
	if errno := f.disk.write(f.inode, src, off); errno != 0 {
		return 0, errno
	}
	return uint32(len(src)), 0
}

// Fsync implements fs.NodeFsyncer, of files and of directories.
func (f *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	return f.disk.fsync(f.inode)
}

// Statfs implements fs.NodeStatfser.
func (f *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	out.Bsize, out.Frsize, out.NameLen = pageSize, pageSize, 255
	out.Blocks = capacity / pageSize
	out.Bfree = uint64(f.disk.room(f.inode)) / pageSize
	out.Bavail = out.Bfree
	return 0
}
