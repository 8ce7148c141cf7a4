package embedded

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
)

// leftovers are the files, below the directory of a server, in which it and we
// try the disk, and which are removed at once unless the process dies first.
var leftovers = []string{
	"trial-*", // mend.go
	filepath.Join(server.JetStreamStoreDir, "_test_*"),
	filepath.Join(server.JetStreamStoreDir, "*", "streams", "*", "_test_*"),
}

// sweep removes what a process that died left behind. The server takes every
// entry beside its accounts for an account, finds none for such a file, and is
// never healthy again.
func sweep(dir string) error {
	var errs []error
	for _, pattern := range leftovers {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		errs = append(errs, err)
		for _, file := range files {
			errs = append(errs, os.Remove(file))
		}
	}
	return errors.Join(errs...)
}
