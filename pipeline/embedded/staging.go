package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// StagingOff leaves the batches where the server puts them by itself.
const StagingOff = "off"

const (
	batchesDir     = "batches"    // of a stream, where the server stages
	stagingPrefix  = "tributary-" // of what we make in a memory filesystem
	leastForStages = 48 << 20     // bytes such a filesystem must have free: six batches, of which two stand at a time
)

// staging is the place in memory where the server stages atomic batches. It writes
// the messages of a batch into a store made for it, with files of its own that it
// syncs, before it writes them into the stream, so that after a crash it can write
// the rest of a batch of which the stream has a part. Making, syncing and removing
// that store takes most of a commit's time: five fsyncs beside the stream's one.
//
// Nothing we promise hangs on it. What is acknowledged was synced in the stream, a
// batch of which it has a part was not acknowledged, and a publisher that repeats
// one looks whether all of it is there. So the directory of every stream's batches is
// a link into a filesystem in memory. What is there outlives this process, as the
// server expects, but not the machine.
type staging struct {
	dir  string   // holds the streams, as Options.Dir
	root string   // in memory; "" when there is none
	lock *dirLock // of root
}

// openStaging makes the place, below base or where this system has one. When there
// is none, why says so.
func openStaging(dir, base string) (_ *staging, why error) {
	s := &staging{dir: dir}
	if base == StagingOff {
		return s, nil
	}
	if base == "" {
		if base, why = memoryDir(); why != nil {
			return s, why
		}
	}
	base, why = filepath.Abs(base) // links lead there from elsewhere
	if why != nil {
		return s, why
	}
	sweepStaging(base)
	root, err := os.MkdirTemp(base, stagingPrefix)
	if err != nil {
		return s, err
	}
	if s.lock, err = lockDir(root); err != nil {
		return s, errors.Join(err, os.RemoveAll(root))
	}
	s.root = root
	return s, nil
}

// sweepStaging removes the places of processes that died an hour ago or earlier,
// and whose data was not served again since. Whose a place is decides its owner: a
// stranger can make directories beside it.
func sweepStaging(base string) {
	places, _ := filepath.Glob(filepath.Join(base, stagingPrefix+"*")) // the pattern is sound
	for _, place := range places {
		info, err := os.Lstat(place)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < time.Hour {
			continue
		}
		if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() || info.Mode().Perm() != 0o700 {
			continue
		}
		if lock, err := lockDir(place); err == nil { // nobody lives there
			_ = os.RemoveAll(place)
			_ = lock.release()
		}
	}
}

// link has the batches of every stream of atomic batches staged in memory, but for
// those of a stream that is staging one on the disk now.
func (s *staging) link() error {
	if s.root == "" {
		return nil
	}
	streams, err := s.streams()
	if err != nil {
		return err
	}
	var errs []error
	for _, stream := range streams {
		if batched(stream) {
			errs = append(errs, s.linkStream(stream))
		}
	}
	return errors.Join(errs...)
}

func (s *staging) linkStream(stream string) error {
	target := filepath.Join(s.root, filepath.Base(stream))
	if err := os.MkdirAll(target, 0o700); err != nil { // also when somebody tidied up
		return err
	}
	link := filepath.Join(stream, batchesDir)
	if to, err := os.Readlink(link); err == nil && to == target {
		return nil
	}
	err := ignoreMissing(os.Remove(link)) // an older link, or a directory that is empty
	if err == nil {
		err = os.Symlink(target, link)
	}
	if info, look := os.Lstat(link); err != nil && look == nil && info.IsDir() {
		return nil
	}
	return err
}

// older are the places of earlier lives that streams still link to.
func (s *staging) older() (roots []string) {
	streams, _ := s.streams() // the pattern is sound
	for _, stream := range streams {
		to, err := os.Readlink(filepath.Join(stream, batchesDir))
		root := filepath.Dir(to)
		if err == nil && root != s.root && strings.HasPrefix(filepath.Base(root), stagingPrefix) {
			roots = append(roots, root)
		}
	}
	return roots
}

// close removes the place and the links to it, once the server has stopped.
func (s *staging) close() error {
	if s.root == "" {
		return nil
	}
	streams, err := s.streams()
	errs := []error{err, os.RemoveAll(s.root), s.lock.release()}
	for _, stream := range streams {
		link := filepath.Join(stream, batchesDir)
		if to, err := os.Readlink(link); err == nil && filepath.Dir(to) == s.root {
			errs = append(errs, ignoreMissing(os.Remove(link)))
		}
	}
	return errors.Join(errs...)
}

func (s *staging) streams() ([]string, error) {
	return filepath.Glob(filepath.Join(s.dir, server.JetStreamStoreDir, "*", "streams", "*"))
}

// batched says whether a stream takes atomic batches. Only of such the server
// removes the links when it begins.
func batched(stream string) bool {
	raw, err := os.ReadFile(filepath.Join(stream, server.JetStreamMetaFile))
	var settings server.StreamConfig
	return err == nil && json.Unmarshal(raw, &settings) == nil && settings.AllowAtomicPublish
}

func removeAll(roots []string) error {
	var errs []error
	for _, root := range roots {
		errs = append(errs, os.RemoveAll(root))
	}
	return errors.Join(errs...)
}

// Stage has the batches of streams that were made since the start staged in memory,
// too. Call it before something is published to them.
func (s *Server) Stage() error {
	if err := s.staging.link(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("embedded nats: stage batches in memory: %w", err)
	}
	return nil
}
