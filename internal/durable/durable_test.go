package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/tributary-iot/tributary/internal/crashlab/faultfs"
	"github.com/tributary-iot/tributary/internal/durable"
	"github.com/tributary-iot/tributary/internal/peer"
)

// TestPowerCut takes power away right after a file was written: it is there,
// whole, under either model of names.
func TestPowerCut(t *testing.T) {
	for _, names := range []faultfs.Names{faultfs.JournalNames, faultfs.StrictNames} {
		disk, dir := faultfs.New(names), t.TempDir()
		path := filepath.Join(dir, "token")
		for _, content := range []string{"first", "second, and longer", "3"} {
			mount := attach(t, disk, dir)
			if err := durable.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := mount.Unmount(); err != nil {
				t.Fatal(err)
			}
			disk.Cut(nil)
			mount = attach(t, disk, dir)
			if raw, err := os.ReadFile(path); err != nil || string(raw) != content {
				t.Fatalf("after a power cut the file holds %q, %v; want %q", raw, err, content)
			}
			if err := mount.Unmount(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestFailure leaves what was there, and nothing beside it.
func TestFailure(t *testing.T) {
	disk, dir := faultfs.New(faultfs.JournalNames), t.TempDir()
	mount := attach(t, disk, dir)
	defer mount.Detach()
	path := filepath.Join(dir, "token")
	if err := durable.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	disk.Inject(faultfs.Fault{Sync: true, Errno: syscall.EIO})
	if err := durable.WriteFile(path, []byte("new"), 0o600); !errors.Is(err, syscall.EIO) {
		t.Errorf("a disk that does not sync: %v", err)
	}
	disk.Heal()
	disk.Limit("", 0)
	if err := durable.WriteFile(path, []byte("new"), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a full disk: %v", err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "old" {
		t.Errorf("the file holds %q, %v", raw, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v, %v", entries, err)
	}
}

func attach(t *testing.T, disk *faultfs.Disk, dir string) *faultfs.Mount {
	t.Helper()
	peer.FUSE(t)
	mount, err := disk.Mount(dir)
	if err != nil {
		t.Fatal(err)
	}
	return mount
}
