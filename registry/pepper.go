package registry

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// PepperBytes is the length of the server's pepper.
const PepperBytes = 32

// LoadPepper reads the key under which secrets are hashed, and makes it on
// first use: 32 random bytes, readable by the owner only. Two servers starting
// at once agree on one. Whoever loses the file loses every secret in the
// registry (devices must be rotated); whoever copies it, together with the
// registry, can check guesses at secrets but not read them.
func LoadPepper(path string) ([]byte, error) {
	for range 2 {
		pepper, err := readPepper(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return pepper, err
		}
		if err := createPepper(path); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("cannot create the pepper file %s: %w", path, err)
		}
	}
	return readPepper(path)
}

func readPepper(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the pepper file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the pepper file %s is not a regular file", path)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("the pepper file %s may be read by others (mode %04o): run chmod 600 on it", path, perm)
	}
	if info.Size() != PepperBytes {
		return nil, fmt.Errorf("the pepper file %s holds %d bytes instead of %d: restore it from a backup, "+
			"or delete it and rotate the secret of every device", path, info.Size(), PepperBytes)
	}
	pepper, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the pepper file: %w", err)
	}
	return pepper, nil
}

// createPepper writes a complete file beside path and links it into place, so
// that nobody ever reads half of one and the first of two creators wins.
func createPepper(path string) error {
	var pepper [PepperBytes]byte
	rand.Read(pepper[:])
	tmp, err := os.CreateTemp(filepath.Dir(path), ".pepper-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(pepper[:])
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the new name survive a power cut. Windows has no such call.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
