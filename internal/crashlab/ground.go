package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/tributary-iot/tributary/internal/crashlab/faultfs"
)

// ground is what the victim's data stands on: a directory of the host, or a
// disk that can lose power.
type ground struct {
	dir   string
	disk  *faultfs.Disk // nil: of the host
	mount *faultfs.Mount
}

func newGround(dir string, faulty bool, names faultfs.Names) (*ground, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	g := &ground{dir: dir}
	if !faulty {
		return g, nil
	}
	g.disk = faultfs.New(names)
	return g, g.attach()
}

func (g *ground) attach() (err error) {
	g.mount, err = g.disk.Mount(g.dir)
	return err
}

// cut is a power cut, after the victim was killed: unmount, forget what was not
// durable, or of that a part, and mount what is left.
func (g *ground) cut(ctx context.Context, rng *rand.Rand, part bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := g.forgetMemory(); err != nil {
		return "", err
	}
	err := until(ctx, func() (bool, error) { // the kernel closes the files of the dead in its own time
		return g.mount.Unmount() == nil, nil
	})
	if err != nil { // somebody on this machine looks into it; it is cut all the same
		if err := g.mount.Detach(); err != nil {
			return "", err
		}
	}
	what := "a part of what was unsynced stayed"
	if !part {
		rng, what = nil, "all of what was unsynced went"
	}
	report := g.disk.Cut(rng)
	return fmt.Sprintf("%s: %s", what, report), g.attach()
}

// forgetMemory takes away what the streams of the dead victim keep in memory, to
// which their directories link.
func (g *ground) forgetMemory() error {
	links, err := filepath.Glob(filepath.Join(g.dir, "nats", "jetstream", "*", "streams", "*", "batches"))
	errs := []error{err}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil {
			errs = append(errs, os.RemoveAll(filepath.Dir(to)))
		}
	}
	return errors.Join(errs...)
}

// leave ends the mount. A failed run's disk is written out first, to be looked at.
func (g *ground) leave(keep bool) error {
	if g.disk == nil {
		return nil
	}
	var err error
	if keep {
		err = g.disk.Export(filepath.Join(filepath.Dir(g.dir), "disk"))
	}
	if g.mount != nil {
		if e := g.mount.Detach(); err == nil {
			err = e
		}
	}
	return err
}
