package embedded

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// unsettled is how long before a stream was last written to, at most, something
// was written that may not be on the disk: a commit that waited for its fsync.
const unsettled = 10 * time.Second

// settle writes the newest message blocks of every stream over themselves, and
// syncs them. After a failed fsync the system forgets that data is not on the
// disk: the file reads well, a later fsync answers well, and a power cut takes it
// away. What is stored behind such a hole, and acknowledged, the server would cut
// off with it at its next start; and a message in it, sent again, it would call a
// duplicate.
//
// So this is done whenever a server begins on blocks that another one wrote
// and did not close in order: after a fault, and after a process that died, perhaps
// of one. It needs no room on the disk, and changes no byte.
func settle(dir string) error {
	streams, err := filepath.Glob(filepath.Join(dir, server.JetStreamStoreDir, "*", "streams", "*", "msgs"))
	if err != nil {
		return err
	}
	for _, stream := range streams {
		if err := settleStream(stream); err != nil {
			return err
		}
	}
	return nil
}

func settleStream(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	written := map[string]time.Time{}
	var newest time.Time
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), ".blk") {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		written[e.Name()] = info.ModTime()
		if info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	for name, at := range written {
		if at.Before(newest.Add(-unsettled)) {
			continue
		}
		path := filepath.Join(dir, name)
		if err := rewrite(path); err != nil {
			return fmt.Errorf("write %s over itself: %w", path, err)
		}
	}
	return syncDir(dir)
}

// rewrite writes a file's bytes over themselves, so that the system holds them
// for new, and syncs it.
func rewrite(path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf := make([]byte, 1<<20)
	for at := int64(0); ; {
		n, err := f.ReadAt(buf, at)
		if n > 0 {
			if _, err := f.WriteAt(buf[:n], at); err != nil {
				return err
			}
			at += int64(n)
		}
		if errors.Is(err, io.EOF) {
			return f.Sync()
		}
		if err != nil {
			return err
		}
	}
}
