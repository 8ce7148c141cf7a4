package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/storage"
)

// storeKeeper is the store of this house: open here while this node holds its
// lease, and otherwise at the node that does. It is a storage.Reader either way.
type storeKeeper struct {
	h    *house
	belt *pipeline.Belt
	node *pipeline.Node
	name string

	remote *pipeline.RemoteStore
	mu     sync.RWMutex
	here   *heldStore // nil: standing by, or without the role persist
	failed error      // why the lease could not be used
	ended  bool       // the house stops: nothing is claimed any more
}

// heldStore is a store this node writes to.
type heldStore struct {
	storage.Store
	lease     *pipeline.StoreLease
	persister *pipeline.Persister
	unserve   func()
}

// openKeeper opens the store if this node may write to it now; a node that
// stands by opens it when its turn comes.
func (h *house) openKeeper(ctx context.Context, belt *pipeline.Belt, node *pipeline.Node) (*storeKeeper, error) {
	k := &storeKeeper{h: h, belt: belt, node: node, name: h.cfg.storeName(), remote: node.RemoteStore()}
	if !h.cfg.has(rolePersist) {
		return k, nil
	}
	holder, err := k.claim(ctx)
	if err != nil {
		return nil, errors.Join(err, k.drop(ctx))
	}
	if holder != "" {
		h.log.Info("standing by: another node writes to the store", "store", k.name, "node", holder)
	}
	if h.cfg.NATS != "" {
		h.add(part{name: "store lease", run: k.run})
	}
	h.add(part{name: "store", stop: k.stop})
	return k, nil
}

// storeName is StoreName, or where the store is.
func (c *serveConfig) storeName() string {
	if c.StoreName != "" {
		return c.StoreName
	}
	path, err := c.storePath()
	if err != nil {
		return c.Store
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return "sqlite:" + host + ":" + path
}

// claim takes the lease and begins to write; holder names the node that has it.
func (k *storeKeeper) claim(ctx context.Context) (holder string, err error) {
	lease, held, err := k.node.ClaimStore(ctx, k.name)
	if err != nil || lease == nil {
		return held.Node, err
	}
	s := &heldStore{lease: lease, unserve: func() {}}
	if err := k.begin(ctx, s); err != nil {
		return "", errors.Join(err, k.end(ctx, s))
	}
	k.mu.Lock()
	ended := k.ended
	if !ended {
		k.here, k.failed = s, nil
	}
	k.mu.Unlock()
	if ended {
		return "", k.end(ctx, s)
	}
	return "", nil
}

func (k *storeKeeper) begin(ctx context.Context, s *heldStore) (err error) {
	began := time.Now()
	if s.Store, err = k.h.openStore(); err != nil {
		return err
	}
	if err := s.lease.Check(ctx, s.Store); err != nil {
		return err
	}
	keep, err := k.h.cfg.keepRules()
	if err != nil {
		return err
	}
	s.persister, err = k.belt.StartPersister(ctx, s.Store, pipeline.PersistOptions{KeepBytes: max(k.h.cfg.StreamKeepBytes, 1), Keep: keep, Floor: k.node.Stored})
	if err != nil {
		return err
	}
	k.h.foundStore(k.name, s, began)
	if k.h.cfg.NATS == "" {
		return nil // there is nobody to ask
	}
	s.unserve, err = k.belt.ServeStore(k.name, s.Store, s.persister.WaitStored)
	return err
}

// end stops writing and gives the lease back, as far as it was got.
func (k *storeKeeper) end(ctx context.Context, s *heldStore) (err error) {
	s.unserve()
	var positions map[string]device.Position
	if s.persister != nil {
		err = s.persister.Close(ctx)
		positions = s.persister.Positions()
	}
	if s.Store != nil {
		err = errors.Join(err, s.Store.Close())
	}
	return errors.Join(err, s.lease.Free(ctx, positions))
}

// stop is the store's end.
func (k *storeKeeper) stop(ctx context.Context) error {
	k.mu.Lock()
	k.ended = true
	k.mu.Unlock()
	return k.drop(ctx)
}

// drop closes the store, if it is here.
func (k *storeKeeper) drop(ctx context.Context) error {
	k.mu.Lock()
	s := k.here
	k.here = nil
	k.mu.Unlock()
	if s == nil {
		return nil
	}
	return k.end(ctx, s)
}

// run tells the others how far the store is while this node has it, and claims
// it while it has not.
func (k *storeKeeper) run(ctx context.Context) error {
	tick := time.NewTicker(min(time.Second, k.h.cfg.NodeTimeout/6))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if s := k.holding(); s != nil {
			k.report(ctx, s)
			continue
		}
		k.mu.Lock()
		ended := k.ended
		k.mu.Unlock()
		if ended {
			return nil
		}
		holder, err := k.claim(ctx)
		k.mu.Lock()
		news := err != nil && (k.failed == nil || k.failed.Error() != err.Error())
		k.failed = err
		k.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return nil
		case news:
			k.h.log.Error("the store cannot be taken over; trying again", "store", k.name, "error", err)
		case err == nil && holder == "":
			k.h.log.Info("this node writes to the store now", "store", k.name)
		}
	}
}

func (k *storeKeeper) report(ctx context.Context, s *heldStore) {
	err := s.lease.Report(ctx, s.persister.Positions())
	if device.CodeOf(err) != device.Conflict {
		if err != nil && ctx.Err() == nil {
			k.h.log.Warn("how far the store is could not be told; trying again", "store", k.name, "error", err)
		}
		return
	}
	k.h.log.Error("this node has lost the store; it stands by", "store", k.name, "error", err)
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.h.cfg.DrainTimeout)
	defer cancel()
	if err := k.drop(ending); err != nil {
		k.h.log.Error("the store was not closed cleanly", "store", k.name, "error", err)
	}
}

func (k *storeKeeper) holding() *heldStore {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.here
}

// reader is whom to ask now.
func (k *storeKeeper) reader() storage.Reader {
	if s := k.holding(); s != nil {
		return s.Store
	}
	return k.remote
}

// barrier is api.Barrier.
func (k *storeKeeper) barrier(ctx context.Context) error {
	if s := k.holding(); s != nil {
		return s.persister.WaitStored(ctx)
	}
	return k.remote.Barrier(ctx)
}

// stored answers how far every store has the streams of commands.
func (k *storeKeeper) stored(ctx context.Context) (commands, events uint64, err error) {
	if s := k.holding(); s != nil && k.h.cfg.NATS == "" {
		return s.persister.Stored(pipeline.CommandStream), s.persister.Stored(pipeline.CommandEventStream), nil
	}
	if commands, err = k.node.Stored(ctx, pipeline.CommandStream); err != nil {
		return 0, 0, err
	}
	events, err = k.node.Stored(ctx, pipeline.CommandEventStream)
	return commands, events, err
}

// look says who writes to the store; standing by is health.
func (k *storeKeeper) look() (detail string, err error) {
	k.mu.RLock()
	s, failed := k.here, k.failed
	k.mu.RUnlock()
	switch {
	case s != nil:
		return "here: " + k.name + s.size(), s.persister.Healthy()
	case failed != nil:
		return k.name, fmt.Errorf("cannot be taken over: %w", failed)
	case !k.h.cfg.has(rolePersist):
		return "at another node; this one has no role persist", nil
	}
	return "at another node; this one stands by for " + k.name, nil
}

// size says how large the store is, if its engine knows.
func (s *heldStore) size() string {
	sized, ok := s.Store.(interface{ Size() (held, most int64) })
	if !ok {
		return ""
	}
	held, most := sized.Size()
	text := fmt.Sprintf(", %.1f MiB", float64(held)/(1<<20))
	if most > 0 {
		text += fmt.Sprintf(" of %.1f MiB", float64(most)/(1<<20))
	}
	return text
}

// lookPersister says how far the store is behind the stream.
func (k *storeKeeper) lookPersister() (detail string, err error) {
	s := k.holding()
	if s == nil {
		return "at another node", nil
	}
	return fmt.Sprintf("%d messages behind", s.persister.Lag()), s.persister.Healthy()
}

var _ storage.Reader = (*storeKeeper)(nil)

// Messages implements storage.Reader.
func (k *storeKeeper) Messages(ctx context.Context, q storage.MessageQuery) (storage.MessagePage, error) {
	return k.reader().Messages(ctx, q)
}

// After implements storage.Reader.
func (k *storeKeeper) After(ctx context.Context, q storage.AfterQuery) ([]device.Stored, error) {
	return k.reader().After(ctx, q)
}

// Points implements storage.Reader.
func (k *storeKeeper) Points(ctx context.Context, q storage.PointQuery) ([]storage.Point, error) {
	return k.reader().Points(ctx, q)
}

// Buckets implements storage.Reader.
func (k *storeKeeper) Buckets(ctx context.Context, q storage.BucketQuery) ([]storage.Bucket, error) {
	return k.reader().Buckets(ctx, q)
}

// Latest implements storage.Reader.
func (k *storeKeeper) Latest(ctx context.Context, q storage.LatestQuery) ([]storage.LatestValue, error) {
	return k.reader().Latest(ctx, q)
}

// Command implements storage.Reader.
func (k *storeKeeper) Command(ctx context.Context, tenant, devicename, id string) (device.CommandRecord, error) {
	return k.reader().Command(ctx, tenant, devicename, id)
}

// Commands implements storage.Reader.
func (k *storeKeeper) Commands(ctx context.Context, q storage.CommandQuery) (storage.CommandPage, error) {
	return k.reader().Commands(ctx, q)
}

// Events implements storage.Reader.
func (k *storeKeeper) Events(ctx context.Context, q storage.EventQuery) ([]device.StoredEvent, error) {
	return k.reader().Events(ctx, q)
}
