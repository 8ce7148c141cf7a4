package faultfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tributary-iot/tributary/internal/crashlab/faultfs"
	"github.com/tributary-iot/tributary/internal/peer"
)

// rig is a disk at a mount point, in use through the kernel.
type rig struct {
	t     *testing.T
	disk  *faultfs.Disk
	dir   string
	mount *faultfs.Mount
}

func mounted(t *testing.T, names faultfs.Names) *rig {
	t.Helper()
	peer.FUSE(t)
	r := &rig{t: t, disk: faultfs.New(names), dir: t.TempDir()}
	r.attach()
	t.Cleanup(func() { r.mount.Detach() })
	return r
}

func (r *rig) attach() {
	r.t.Helper()
	var err error
	if r.mount, err = r.disk.Mount(r.dir); err != nil {
		r.t.Fatal(err)
	}
}

// cut is a power cut and a restart.
func (r *rig) cut(rng *rand.Rand) faultfs.Report {
	r.t.Helper()
	r.must(r.mount.Unmount())
	report := r.disk.Cut(rng)
	r.attach()
	return report
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

// write makes or extends a file, with more flags of open(2), and syncs it if told to.
func (r *rig) write(name, text string, flags int, sync bool) {
	r.t.Helper()
	f, err := os.OpenFile(r.path(name), os.O_WRONLY|os.O_CREATE|flags, 0o600)
	r.must(err)
	_, err = f.WriteString(text)
	r.must(err)
	if sync {
		r.must(f.Sync())
	}
	r.must(f.Close())
}

func (r *rig) syncDir(name string) {
	r.t.Helper()
	f, err := os.Open(r.path(name))
	r.must(err)
	r.must(f.Sync())
	r.must(f.Close())
}

// holds compares a file with what it should hold; "-" is a file that is not there.
func (r *rig) holds(name, want string) {
	r.t.Helper()
	got := "-"
	if raw, err := os.ReadFile(r.path(name)); err == nil {
		got = string(raw)
	} else if !errors.Is(err, fs.ErrNotExist) {
		r.t.Fatal(err)
	}
	if got != want {
		r.t.Errorf("%s holds %.80q, want %.80q", name, got, want)
	}
}

func TestWhatWasSyncedSurvives(t *testing.T) {
	for seed := range uint64(20) {
		r := mounted(t, faultfs.JournalNames)
		rng := rand.New(rand.NewPCG(seed, 0))
		if seed == 0 {
			rng = nil
		}
		r.must(os.MkdirAll(r.path("a/b"), 0o700))
		r.write("a/b/synced", "one", 0, true)
		r.write("a/b/osync", "two", syscall.O_SYNC, false)
		r.write("a/b/odsync", "three", syscall.O_DSYNC, false)
		r.write("a/b/grown", "four", 0, true)
		r.write("a/b/grown", " and five", os.O_APPEND, true)
		r.cut(rng)
		r.holds("a/b/synced", "one")
		r.holds("a/b/osync", "two")
		r.holds("a/b/odsync", "three")
		r.holds("a/b/grown", "four and five")
		r.must(r.mount.Unmount())
	}
}

func TestWhatWasNotSyncedIsDropped(t *testing.T) {
	r := mounted(t, faultfs.JournalNames)
	r.write("more", "kept", 0, true)
	r.write("more", "gone", os.O_APPEND, false)
	r.write("over", "old", 0, true)
	r.write("over", "new", 0, false)
	r.write("short", "long text", 0, true)
	r.write("never", "x", 0, false)
	r.must(os.Truncate(r.path("short"), 4))
	r.holds("never", "x")
	r.holds("more", "keptgone")
	r.holds("short", "long")
	if report := r.cut(nil); report.Unsynced != 3 || report.Names != 1 || report.Kept+report.Torn+report.KeptNames != 0 {
		t.Errorf("the cut reports %s", report)
	}
	r.holds("never", "-")
	r.holds("more", "kept")
	r.holds("over", "old")
	r.holds("short", "long text")
}

// TestTearing: whatever a cut keeps is, byte by byte, what was synced or what was
// written there after it; what was synced and not written again stays; and a seed
// does the same twice.
func TestTearing(t *testing.T) {
	const size, synced = 20 * 4096, 7*4096 + 100
	fates := map[rune]int{}
	for seed := range uint64(30) {
		var results [2][]byte
		for again := range results {
			r := mounted(t, faultfs.JournalNames)
			r.write("f", strings.Repeat("o", synced), 0, true)
			f, err := os.OpenFile(r.path("f"), os.O_WRONLY, 0)
			r.must(err)
			_, err = f.WriteAt(bytes.Repeat([]byte("n"), size-synced), synced) // behind what is synced
			r.must(err)
			_, err = f.WriteAt(bytes.Repeat([]byte("N"), 4096), 4096) // and over it
			r.must(err)
			r.must(f.Close())
			r.cut(rand.New(rand.NewPCG(seed, 1)))
			results[again], err = os.ReadFile(r.path("f"))
			r.must(err)
			r.must(r.mount.Unmount())
		}
		got := results[0]
		if !bytes.Equal(got, results[1]) {
			t.Fatalf("seed %d: two cuts differ", seed)
		}
		if len(got) < synced || len(got) > size {
			t.Fatalf("seed %d: the file has %d bytes", seed, len(got))
		}
		for i, b := range got {
			allowed := "o"
			switch {
			case i >= synced:
				allowed = "n\x00"
			case i/4096 == 1:
				allowed = "oN"
			}
			if !strings.ContainsRune(allowed, rune(b)) {
				t.Fatalf("seed %d: byte %d is %q", seed, i, b)
			}
			fates[rune(b)]++
		}
	}
	if fates['N'] == 0 || fates['n'] == 0 || fates[0] == 0 {
		t.Errorf("not everything that can happen did: %v", fates)
	}
}

// TestCutWithAFileOpen: who holds a file through a power cut holds nothing.
func TestCutWithAFileOpen(t *testing.T) {
	r := mounted(t, faultfs.JournalNames)
	r.write("f", "old", 0, true)
	f, err := os.OpenFile(r.path("f"), os.O_WRONLY, 0)
	r.must(err)
	defer f.Close()
	if err := r.mount.Unmount(); !errors.Is(err, syscall.EBUSY) {
		t.Fatalf("unmounting a file in use answers %v", err)
	}
	r.must(r.mount.Detach())
	r.disk.Cut(nil)
	r.attach()
	_, err = f.WriteString("new")
	r.must(err)
	r.must(f.Sync())
	r.holds("f", "old")
	r.cut(nil)
	r.holds("f", "old")
}

func TestNamesInTheJournal(t *testing.T) {
	r := mounted(t, faultfs.JournalNames)
	r.write("first", "1", 0, false)
	r.write("then", "2", 0, true) // its name is behind first's in the journal
	r.must(os.Mkdir(r.path("dir"), 0o700))
	r.write("dir/late", "3", 0, false)
	r.cut(nil)
	r.holds("first", "") // the name, and no bytes
	r.holds("then", "2")
	r.holds("dir/late", "-")

	r.write("old", "1", 0, true)
	r.must(os.Rename(r.path("old"), r.path("new")))
	r.must(os.Remove(r.path("then")))
	r.cut(nil) // nobody synced anything since
	r.holds("old", "1")
	r.holds("new", "-")
	r.holds("then", "2")

	r.must(os.Rename(r.path("old"), r.path("new")))
	r.must(os.Remove(r.path("then")))
	r.syncDir(".")
	r.cut(nil)
	r.holds("old", "-")
	r.holds("new", "1")
	r.holds("then", "-")
}

// TestRenameOverSyncedFile is how a file is replaced: the old one or the new one
// is there after a cut, whole.
func TestRenameOverSyncedFile(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(30) {
		r := mounted(t, faultfs.JournalNames)
		r.write("f", "old", 0, true)
		r.write("f.part", "new", 0, true)
		r.must(os.Rename(r.path("f.part"), r.path("f")))
		r.cut(rand.New(rand.NewPCG(seed, 2)))
		raw, err := os.ReadFile(r.path("f"))
		r.must(err)
		seen[string(raw)] = true
		r.must(r.mount.Unmount())
	}
	if len(seen) != 2 || !seen["old"] || !seen["new"] {
		t.Errorf("after 30 cuts the file was %v", seen)
	}
}

func TestStrictNames(t *testing.T) {
	r := mounted(t, faultfs.StrictNames)
	r.write("file", "1", 0, true)
	r.must(os.Mkdir(r.path("dir"), 0o700))
	r.write("dir/file", "2", 0, true)
	r.syncDir("dir") // whose own name is not durable
	r.cut(nil)
	r.holds("file", "-")
	r.holds("dir/file", "-")

	r.must(os.Mkdir(r.path("dir"), 0o700))
	r.write("dir/file", "2", 0, true)
	r.syncDir("dir")
	r.syncDir(".")
	r.must(os.Rename(r.path("dir/file"), r.path("moved")))
	r.syncDir("dir") // one side of the rename takes the other with it
	r.cut(nil)
	r.holds("dir/file", "-")
	r.holds("moved", "2")
}

// TestFailedFsync: the error is told once, and what was not written is not
// written by the next fsync either.
func TestFailedFsync(t *testing.T) {
	r := mounted(t, faultfs.JournalNames)
	r.must(os.Mkdir(r.path("bad"), 0o700))
	r.write("bad/f", "kept ", 0, true)
	r.disk.Inject(faultfs.Fault{Under: "bad", Sync: true, Errno: syscall.EIO, Skip: 1})
	r.write("bad/f", "also ", os.O_APPEND, true)
	f, err := os.OpenFile(r.path("bad/f"), os.O_WRONLY|os.O_APPEND, 0)
	r.must(err)
	_, err = f.WriteString(strings.Repeat("x", 2*4096))
	r.must(err)
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("fsync answers %v", err)
	}
	r.write("fine", "1", 0, true)
	if hits := r.disk.Heal(); hits != 1 {
		t.Errorf("%d calls failed", hits)
	}
	r.must(f.Sync())
	r.must(f.Close())
	r.cut(nil)
	r.holds("fine", "1")
	r.holds("bad/f", "kept also "+strings.Repeat("\x00", 2*4096))
}

func TestFullDiskAndFailedWrites(t *testing.T) {
	r := mounted(t, faultfs.JournalNames)
	r.must(os.Mkdir(r.path("full"), 0o700))
	r.disk.Limit("full", 4*4096)
	r.write("full/a", strings.Repeat("x", 4*4096), 0, true)
	var stat syscall.Statfs_t
	r.must(syscall.Statfs(r.path("full"), &stat))
	if stat.Bavail != 0 {
		t.Errorf("statfs finds %d free blocks", stat.Bavail)
	}
	if err := os.WriteFile(r.path("full/b"), []byte("x"), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a write to a full disk answers %v", err)
	}
	r.write("elsewhere", "x", 0, true)
	r.must(os.Remove(r.path("full/a")))
	r.write("full/b", "x", 0, true) // there is room again
	if hits := r.disk.Heal(); hits != 1 {
		t.Errorf("%d calls failed", hits)
	}
	r.disk.Inject(faultfs.Fault{Write: true, Errno: syscall.EIO})
	if err := os.WriteFile(r.path("c"), []byte("x"), 0o600); !errors.Is(err, syscall.EIO) {
		t.Errorf("a write answers %v", err)
	}
	r.disk.Heal()
	r.write("c", "x", 0, true)
	r.disk.Quota("", 0)
	r.must(syscall.Statfs(r.dir, &stat))
	if err := os.WriteFile(r.path("d"), []byte("x"), 0o600); !errors.Is(err, syscall.ENOSPC) || stat.Bavail == 0 {
		t.Errorf("a write beyond a quota answers %v, statfs finds %d free blocks", err, stat.Bavail)
	}
}

func TestSyncOfEverything(t *testing.T) {
	r := mounted(t, faultfs.StrictNames)
	r.must(os.MkdirAll(r.path("a/b"), 0o700))
	r.write("a/b/f", "1", 0, false)
	r.disk.Sync()
	r.cut(nil)
	r.holds("a/b/f", "1")
}

// mapEnv makes the test binary a process that writes to a file through memory:
// one that mounts should not.
const mapEnv = "FAULTFS_TEST_MAP"

func TestMain(m *testing.M) {
	if path := os.Getenv(mapEnv); path != "" {
		if err := writeMapped(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func writeMapped(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	memory, err := syscall.Mmap(int(f.Fd()), 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(memory, "abc")
	if err := f.Sync(); err != nil {
		return err
	}
	copy(memory[3:], "def")
	return syscall.Munmap(memory)
}

// TestMappedFiles: what a process writes through shared memory is there for
// everybody, and as durable as what it writes otherwise.
func TestMappedFiles(t *testing.T) {
	r := mounted(t, faultfs.JournalNames)
	r.write("shm", strings.Repeat("0", 4096), 0, true)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), mapEnv+"="+r.path("shm"))
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.holds("shm", "abcdef"+strings.Repeat("0", 4090))
	r.cut(nil)
	r.holds("shm", "abc"+strings.Repeat("0", 4093))
}

// TestLinks: a symbolic link leads where it was made to lead, and lasts as its name does.
func TestLinks(t *testing.T) {
	r := mounted(t, faultfs.JournalNames)
	elsewhere := t.TempDir()
	r.must(os.Symlink(elsewhere, r.path("kept")))
	r.syncDir(".")
	r.must(os.Symlink(elsewhere, r.path("gone")))
	for range 2 {
		to, err := os.Readlink(r.path("kept"))
		r.must(err)
		if to != elsewhere {
			t.Errorf("it leads to %q", to)
		}
		r.must(os.WriteFile(r.path("kept/file"), []byte("outside"), 0o600))
		r.cut(nil)
		if _, err := os.Lstat(r.path("gone")); err == nil {
			t.Error("a link whose name was not durable is there after a cut")
		}
	}
	r.must(os.Remove(r.path("kept")))
	r.holds("kept", "-")
	if _, err := os.Stat(filepath.Join(elsewhere, "file")); err != nil {
		t.Errorf("removing the link removed what it leads to: %v", err)
	}
}
