package embedded

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/tributary-iot/tributary/internal/durable"
)

// cleanName is the file in the directory that says the last server on it stopped
// in order. It is there between two lives only.
const cleanName = "CLEAN"

// begun takes the file away, and says whether streams are here that nobody
// closed: the process was killed, or the power went.
func begun(dir string) (unclean bool, err error) {
	path := filepath.Join(dir, cleanName)
	if err := os.Remove(path); err == nil {
		return false, syncDir(dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	streams, err := filepath.Glob(filepath.Join(dir, server.JetStreamStoreDir, "*", "streams", "*"))
	return len(streams) > 0, err
}

// ended says that the streams were closed in order.
func ended(dir string) error { return durable.WriteFile(filepath.Join(dir, cleanName), nil, 0o640) }

// tellRecovery says what was found after an unclean stop. How long it took goes
// with the bytes: the server reads every block that was written to since the
// last time it wrote its index, which it does about every two minutes.
func (s *Server) tellRecovery(ns *server.Server, took time.Duration) {
	j, err := ns.Jsz(&server.JSzOptions{})
	if err != nil {
		s.opts.Logger.Warn("the streams were recovered after a stop that was not in order; how much that was cannot be told", "error", err)
		return
	}
	s.opts.Logger.Info("the last stop was not in order; the streams were recovered",
		"messages", j.Messages, "bytes", j.Store, "took", took.Round(time.Millisecond))
}
