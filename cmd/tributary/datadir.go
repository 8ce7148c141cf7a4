package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/tributary-iot/tributary/internal/durable"
)

// The files of a data directory.
const (
	addressesFile = "addresses.json"
	tokenFile     = "admin.token"
	pepperFile    = "registry.key"
	lockFile      = "lock"
)

// dataLock is the hold on a data directory. While a server has it, its file
// says since when; so one that is still there when the next server comes was
// left by one that was not stopped cleanly.
type dataLock struct {
	*flock.Flock
	unclean bool // the run before was not
}

// lockData makes the directory, private to its owner, and holds it for this
// process: a second server on it would share nothing but trouble.
func lockData(dir string) (*dataLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock := flock.New(filepath.Join(dir, lockFile))
	free, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if !free {
		return nil, fmt.Errorf("data directory %s is in use by another server: stop it, or choose another directory with --data", dir)
	}
	left, err := os.ReadFile(lock.Path())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("data directory: %w", err), lock.Unlock())
	}
	held := &dataLock{lock, len(left) > 0}
	if err := held.write(fmt.Sprintf("running since %s\n", time.Now().UTC().Format(time.RFC3339))); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return held, nil
}

// release gives the directory back. clean says that nothing in it is to be
// recovered.
func (l *dataLock) release(clean bool) error {
	if !clean {
		return l.Unlock()
	}
	return errors.Join(l.write(""), l.Unlock())
}

func (l *dataLock) write(text string) (err error) {
	f, err := os.OpenFile(l.Path(), os.O_WRONLY|os.O_TRUNC, 0)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// prepareData takes away the addresses of an earlier run, which are no longer
// true, and answers the operator's token.
func prepareData(dir string) (token string, err error) {
	if err := removeAddresses(dir); err != nil {
		return "", err
	}
	return loadToken(dir)
}

// loadToken reads the operator's token, and makes it on the first start.
func loadToken(dir string) (string, error) {
	path := filepath.Join(dir, tokenFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		token := rand.Text() + rand.Text()
		return token, durable.WriteFile(path, []byte(token+"\n"), 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("operator's token: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	if len(token) < 16 {
		return "", fmt.Errorf("operator's token: %s holds fewer than 16 characters; delete it and a new one is made", path)
	}
	return token, nil
}

// writeAddresses tells clients where the doors are. It is written last, so that
// its being there means the server is ready.
func writeAddresses(dir string, addresses map[string]string, durability string) error {
	content := map[string]string{"durability": durability}
	for name, addr := range addresses {
		content[name] = addr
	}
	raw, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, addressesFile), append(raw, '\n'), 0o644)
}

func removeAddresses(dir string) error {
	if err := os.Remove(filepath.Join(dir, addressesFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}
