// Package durable writes small files that a power cut leaves whole: keys,
// tokens, identities, which nobody can make again.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// WriteFile puts a whole file in place of what was there, or leaves that. When it
// returns nil, bytes and name survive a power cut: a rename alone does not see to
// that, and can leave an empty file behind.
func WriteFile(path string, content []byte, mode fs.FileMode) error {
	part := path + ".part"
	if err := writeSynced(part, content, mode); err != nil {
		return errors.Join(err, remove(part))
	}
	if err := os.Rename(part, path); err != nil {
		return errors.Join(err, remove(part))
	}
	return syncDir(filepath.Dir(path))
}

func writeSynced(path string, content []byte, mode fs.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncDir makes the names in a directory durable. Windows has no such call.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
