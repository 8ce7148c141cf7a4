package sqlite_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/storage"
	"github.com/tributary-iot/tributary/storage/sqlite"
	"github.com/tributary-iot/tributary/storage/storagetest"
)

func open(t *testing.T, cfg sqlite.Config) *sqlite.Store {
	t.Helper()
	st, err := sqlite.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// Seals of a few messages and partitions of an hour, so that every question
// goes across many of both.
func TestStoreOfSmallSeals(t *testing.T) {
	storagetest.Test(t, func(t *testing.T, dir string) storage.Store {
		return open(t, sqlite.Config{Path: filepath.Join(dir, "a b?%.db"), SealMessages: 150, PartitionEvery: time.Hour})
	})
}

// Everything as a user gets it: in these tests nearly all stays hot, but for
// where the suite asks for a seal.
func TestStoreOfDefaults(t *testing.T) {
	storagetest.Test(t, func(t *testing.T, dir string) storage.Store {
		return open(t, sqlite.Config{Path: filepath.Join(dir, "tributary.db")})
	})
}
