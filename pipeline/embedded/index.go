package embedded

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
)

// forgetIndexes removes the index of every stream whose blocks may not be what
// it says. The server looks at the end of the last block only before it
// believes an index; without one it reads the blocks, checks every record and
// ends each block before the first that is damaged. A block that was not synced
// can have a hole in its middle after a power cut, and with an index from after
// the hole the server was seen to count messages that are not there, and to
// search for them at its start for ever.
//
// So this is for streams that are never synced, which are small, and for all
// after a run that was not stopped in order: then the index is older than the
// last block, nearly always, and would be made anew by itself.
func forgetIndexes(dir string, all bool) error {
	streams, err := filepath.Glob(filepath.Join(dir, server.JetStreamStoreDir, "*", "streams", "*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, stream := range streams {
		if all || unsynced(stream) {
			errs = append(errs, ignoreMissing(os.Remove(filepath.Join(stream, "msgs", "index.db"))))
		}
	}
	return errors.Join(errs...)
}

// unsynced says whether a stream is one that the server acknowledges before it
// has written. Settings that cannot be read are those of one made anew.
func unsynced(stream string) bool {
	raw, err := os.ReadFile(filepath.Join(stream, server.JetStreamMetaFile))
	var settings server.StreamConfig
	return err == nil && (json.Unmarshal(raw, &settings) != nil || settings.PersistMode == server.AsyncPersistMode)
}
