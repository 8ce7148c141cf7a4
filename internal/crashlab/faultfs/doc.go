// Package faultfs is a filesystem that can lose power. It lives in memory, is
// mounted through FUSE, and knows of every byte and every name whether a real
// disk would still have it after a power cut. Disk.Cut takes away what it would
// not; Disk.Inject and Disk.Limit make it fail while it runs.
//
// # What a cut leaves
//
// The model is the guarantee of ext4 with a journal and delayed allocation, and
// of XFS, and not a bit more; where ext4 promises more than other filesystems
// in common use, the weaker promise was taken. So what survives here survives
// there.
//
// Bytes. A write is in memory until its file is synced: fsync, fdatasync, or a
// write through a descriptor opened with O_SYNC or O_DSYNC, which the kernel
// follows with an fsync of its own. Closing a file syncs nothing. A cut drops
// all of it, or keeps a random part: each page of 4 KiB is kept, dropped or
// torn, whatever became of the pages before it, as write-back is free to do. A
// torn page is made of sectors of 512 bytes, new and old; what was synced is
// the same in both and so cannot be torn. A page that was never written reads
// as zeros. The file ends behind its last page that was kept, at its synced
// size if no page beyond it was kept.
//
// Shortening a file is undone by a cut, or not, as long as the file was not
// synced after it. If it is undone the bytes are the old ones, never a mixture
// with those written there later: they went to other blocks.
//
// Names. Making, renaming, linking and removing go to a journal, in order. An
// fsync makes durable the journal up to the last entry that concerns the file
// (or, of a directory, the directory): ext4 and XFS wait for exactly that. So
// the first fsync of a new file also makes its name durable, and those of the
// directories above it, and a file renamed after its fsync has its old name or
// its new one, never none. A cut keeps no more of the journal, or a random
// further part from its beginning: that is the one commit of the journal every
// few seconds. The contents of a file are no part of the journal: a file that
// was renamed before it was synced can be there and be empty. (ext4 writes the
// contents out when the rename replaces a file, unless mounted with
// noauto_da_alloc. That is a favour, not a promise, and is not granted here.) A
// symbolic link has its target for as long as it has its name.
//
// With StrictNames a name is durable only when its directory was fsynced, which
// is all that POSIX says. A rename between directories is one entry of both.
//
// A failed fsync follows Linux since 4.13: the error is told once, the pages
// count as clean from then on, they still read well, the next fsync answers
// well without writing them, and a cut takes them away.
//
// # What it leaves out
//
// Silent corruption: what a disk once had it keeps. Writes past a write cache
// that ignores flushes. Permissions, owners, hard limits on names, special
// files, extended attributes. Locks are the kernel's own.
package faultfs
