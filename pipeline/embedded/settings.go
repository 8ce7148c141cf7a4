package embedded

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/minio/highwayhash"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/tributary-iot/tributary/internal/durable"
)

// mendSettings sees to it that the settings of every stream in dir can be read.
//
// The server keeps them in a file and their checksum in another, and writes one
// after the other. When it dies between the two, or power is cut before the
// files of a stream that does not sync reached the disk, they do not belong
// together. The server then passes the stream over, for good: it writes
// settings anew only where there are none, so the stream is one made anew after
// every start, and what its store has of it is read again each time.
//
// Settings that are whole get their checksum. Others are removed, with it: the
// stream is then made anew once, with the messages that are there.
func mendSettings(dir string, tell func(msg string, args ...any)) error {
	streams, err := filepath.Glob(filepath.Join(dir, server.JetStreamStoreDir, "*", "streams", "*"))
	if err != nil {
		return err
	}
	for _, stream := range streams {
		if err := mendStream(stream, tell); err != nil {
			return fmt.Errorf("settings of %s: %w", stream, err)
		}
	}
	return nil
}

func mendStream(dir string, tell func(msg string, args ...any)) error {
	settings, sum := filepath.Join(dir, server.JetStreamMetaFile), filepath.Join(dir, server.JetStreamMetaFileSum)
	raw, err := os.ReadFile(settings)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // being made, or being deleted
	}
	if err != nil {
		return err
	}
	have, err := os.ReadFile(sum)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	name := filepath.Base(dir)
	want, err := checksum(name, raw)
	if err != nil || string(have) == want {
		return err
	}
	var whole struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(raw, &whole) == nil && whole.Name == name {
		tell("the settings of a stream had no checksum or an older one; it was written anew", "stream", name)
		return durable.WriteFile(sum, []byte(want), 0o600)
	}
	tell("the settings of a stream were damaged, as by a power cut; it is made anew with the messages it holds", "stream", name)
	return errors.Join(os.Remove(settings), ignoreMissing(os.Remove(sum)), syncDir(dir))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// checksum is the server's own, of a stream's settings.
func checksum(name string, raw []byte) (string, error) {
	key := sha256.Sum256([]byte(name))
	hash, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return "", err
	}
	hash.Write(raw)
	return hex.EncodeToString(hash.Sum(nil)), nil
}
