package registrytest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/registry"
)

// Memory is a registry.Store for tests: it keeps everything in a map and
// forgets it with the process. The zero value is ready.
type Memory struct {
	mu       sync.Mutex
	revision uint64
	entries  map[device.ID]entry
	watchers map[*watcher]struct{}
	fail     error
	unseen   error // fails watches only
}

type entry struct {
	value    []byte
	revision uint64
}

type change struct {
	id    device.ID
	entry entry
}

// watcher queues the changes one Watch has still to report.
type watcher struct {
	queue []change
	wake  chan struct{}
	err   error
}

var _ registry.Store = (*Memory)(nil)

// Fail makes every call answer err until Fail(nil), and ends the watches with it.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
	if err == nil {
		return
	}
	for w := range m.watchers {
		w.err = err
		w.signal()
	}
}

// FailWatches ends the watches with err, and lets none begin, until FailWatches(nil).
func (m *Memory) FailWatches(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unseen = err
	if err == nil {
		return
	}
	for w := range m.watchers {
		w.err = err
		w.signal()
	}
}

// Get implements registry.Store.
func (m *Memory) Get(_ context.Context, id device.ID) ([]byte, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[id]
	switch {
	case m.fail != nil:
		return nil, 0, m.fail
	case !ok:
		return nil, 0, device.Errorf(device.NotFound, "no record %s", id)
	}
	return bytes.Clone(e.value), e.revision, nil
}

// Create implements registry.Store.
func (m *Memory) Create(_ context.Context, id device.ID, value []byte) (uint64, error) {
	return m.write(id, bytes.Clone(value), 0)
}

// Update implements registry.Store.
func (m *Memory) Update(_ context.Context, id device.ID, value []byte, revision uint64) (uint64, error) {
	if revision == 0 {
		return 0, device.Errorf(device.Conflict, "revision 0 of %s", id)
	}
	return m.write(id, bytes.Clone(value), revision)
}

// Delete implements registry.Store.
func (m *Memory) Delete(_ context.Context, id device.ID, revision uint64) error {
	if revision == 0 {
		return device.Errorf(device.Conflict, "revision 0 of %s", id)
	}
	_, err := m.write(id, nil, revision)
	return err
}

// write replaces the record whose revision is expect (0: that is absent); a
// nil value deletes it.
func (m *Memory) write(id device.ID, value []byte, expect uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return 0, m.fail
	}
	if have := m.entries[id].revision; have != expect {
		return 0, device.Errorf(device.Conflict, "record %s is at revision %d, not %d", id, have, expect)
	}
	m.revision++
	e := entry{value, m.revision}
	if m.entries == nil {
		m.entries = make(map[device.ID]entry)
	}
	if m.entries[id] = e; value == nil {
		delete(m.entries, id)
	}
	for w := range m.watchers {
		w.queue = append(w.queue, change{id, entry{bytes.Clone(value), e.revision}})
		w.signal()
	}
	return e.revision, nil
}

// List implements registry.Store.
func (m *Memory) List(_ context.Context, tenant, cursor string, limit int, each registry.EntryFunc) (next string, err error) {
	found, err := m.after(tenant, cursor)
	if err != nil {
		return "", err
	}
	if len(found) > limit {
		found = found[:limit]
		next = found[limit-1].id.Device
	}
	for _, c := range found {
		if err := each(c.id, c.entry.value, c.entry.revision); err != nil {
			return "", err
		}
	}
	return next, nil
}

func (m *Memory) after(tenant, after string) ([]change, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []change
	for id, e := range m.entries {
		if id.Tenant == tenant && id.Device > after {
			found = append(found, change{id, entry{bytes.Clone(e.value), e.revision}})
		}
	}
	slices.SortFunc(found, func(a, b change) int { return strings.Compare(a.id.Device, b.id.Device) })
	return found, m.fail
}

// Watch implements registry.Store.
func (m *Memory) Watch(ctx context.Context, ready func(), changed registry.ChangeFunc) error {
	w := &watcher{wake: make(chan struct{}, 1)}
	if err := m.join(w); err != nil {
		return err
	}
	defer m.leave(w)
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		}
		queue, err := m.take(w)
		for _, c := range queue {
			changed(c.id, c.entry.value, c.entry.revision)
		}
		if err != nil {
			return errors.Join(errors.New("watch ended"), err)
		}
	}
}

func (m *Memory) join(w *watcher) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(m.fail, m.unseen); err != nil {
		return err
	}
	if m.watchers == nil {
		m.watchers = make(map[*watcher]struct{})
	}
	m.watchers[w] = struct{}{}
	return nil
}

func (m *Memory) leave(w *watcher) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.watchers, w)
}

func (m *Memory) take(w *watcher) ([]change, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	queue := w.queue
	w.queue = nil
	return queue, w.err
}

func (w *watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
