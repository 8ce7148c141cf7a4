package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// lockName is the file in the directory that the running process holds locked.
// It stays behind; only the lock on it counts, which ends with the process.
const lockName = "LOCK"

// ErrInUse means another process serves the directory.
var ErrInUse = errors.New("directory is in use by another process")

type dirLock struct{ f *os.File }

func lockDir(dir string) (*dirLock, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("embedded nats: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder := make([]byte, 32)
		n, _ := f.ReadAt(holder, 0)
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("embedded nats: %w: %s is locked by process %s; stop it or choose another data directory",
				ErrInUse, path, strings.TrimSpace(string(holder[:n])))
		}
		return nil, fmt.Errorf("embedded nats: lock %s: %w", path, err)
	}
	// The process id is for the other one's error message only.
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return &dirLock{f: f}, nil
}

func (l *dirLock) release() error { return l.f.Close() }
