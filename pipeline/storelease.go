package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// StoreRecord says who writes to a store and how far it is. It is the last
// message on the store's subject of NODES, replaced by compare-and-set only.
type StoreRecord struct {
	Store       string                     `json:"store"`
	Node        string                     `json:"node"`
	Incarnation string                     `json:"incarnation"` // of the holder; the store is free when it has ended
	Positions   map[string]device.Position `json:"positions"`   // by stream: the store holds at least so much
	seq         uint64
}

// StoreLease is the right to write to a store, as long as the node's incarnation
// lives and nobody has replaced the record.
type StoreLease struct {
	n      *Node
	mu     sync.Mutex // Report and Free may meet
	record StoreRecord
}

// ClaimStore takes the lease of a store that no living node holds. Otherwise
// lease is nil, and the record says who has it.
func (n *Node) ClaimStore(ctx context.Context, name string) (lease *StoreLease, held StoreRecord, err error) {
	incarnation, err := n.Acting()
	if err != nil {
		return nil, held, err
	}
	records, err := n.Stores(ctx)
	if err != nil {
		return nil, held, err
	}
	held = records[name]
	if held.Incarnation != "" && held.Incarnation != incarnation && n.Lives(held.Incarnation) {
		return nil, held, nil
	}
	l := &StoreLease{n: n, record: StoreRecord{
		Store: name, Node: n.Info().Name, Incarnation: incarnation, Positions: maps.Clone(held.Positions), seq: held.seq,
	}}
	err = l.write(ctx)
	if isWrongLast(err) { // somebody was faster
		return nil, StoreRecord{Store: name}, nil
	}
	return l, held, err
}

// Stores is every store there ever was, by name.
func (n *Node) Stores(ctx context.Context) (map[string]StoreRecord, error) {
	all := map[string]StoreRecord{}
	if n.solo {
		return all, nil
	}
	err := n.b.readSubject(ctx, NodeStream, storeRoot+everything, func(r raw) {
		var rec StoreRecord
		if json.Unmarshal(r.body, &rec) == nil && storeSubject(rec.Store) == r.subject {
			rec.seq = r.seq
			all[rec.Store] = rec
		}
	})
	return all, err
}

// Stored is the sequence of a stream up to which every store holds it; 0 when
// one holds none of the stream's present life, or there is no store.
func (n *Node) Stored(ctx context.Context, stream string) (uint64, error) {
	s, err := n.b.js.Stream(ctx, stream)
	if err != nil {
		return 0, err
	}
	records, err := n.Stores(ctx)
	if err != nil || len(records) == 0 {
		return 0, err
	}
	epoch, least := streamEpoch(s.CachedInfo()), ^uint64(0)
	for _, rec := range records {
		pos := rec.Positions[stream]
		if pos.Epoch != epoch {
			return 0, nil
		}
		least = min(least, pos.Seq)
	}
	return least, nil
}

// Check refuses a copy of the store that is not the one last written to: it
// would miss what the streams no longer keep.
func (l *StoreLease) Check(ctx context.Context, store storage.Store) error {
	for stream, known := range l.record.Positions {
		pos, err := store.Position(ctx, stream)
		if err != nil {
			return err
		}
		if known.Seq > 0 && pos.Before(known) { // 0: nothing of it was ever stored
			return fmt.Errorf("pipeline: store %q holds %s up to %d, and this copy of it ends at %d: it is another or an older copy; "+
				"bring the right one, or give this one its own name with --store-name", l.record.Store, stream, known.Seq, pos.Seq)
		}
	}
	return nil
}

// Report tells the others how far the store is. The error that it is another
// node's now is of code Conflict: stop writing.
func (l *StoreLease) Report(ctx context.Context, positions map[string]device.Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if incarnation, err := l.n.Acting(); err != nil || incarnation != l.record.Incarnation {
		return device.Errorf(device.Conflict, "this node was cut off from the others, and another may have the store")
	}
	if maps.Equal(positions, l.record.Positions) {
		return nil
	}
	l.record.Positions = positions
	return l.write(ctx)
}

// Free gives the lease back, telling where the store ended; nil when nothing
// was written.
func (l *StoreLease) Free(ctx context.Context, positions map[string]device.Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.record.Incarnation = ""
	if positions != nil {
		l.record.Positions = positions
	}
	err := l.write(ctx)
	if device.CodeOf(err) == device.Conflict {
		return nil
	}
	return err
}

func (l *StoreLease) write(ctx context.Context) error {
	if l.n.solo {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	body, err := json.Marshal(l.record)
	if err != nil {
		return err
	}
	ack, err := l.n.b.js.Publish(ctx, storeSubject(l.record.Store), body, jetstream.WithExpectLastSequencePerSubject(l.record.seq))
	switch {
	case err == nil:
		l.record.seq = ack.Sequence
		return nil
	case !isWrongLast(err):
		return fmt.Errorf("pipeline: lease of store %q: %w", l.record.Store, err)
	}
	// Ours, with its answer lost, or somebody else's?
	records, rerr := l.n.Stores(ctx)
	if rerr != nil {
		return rerr
	}
	if now := records[l.record.Store]; l.record.Incarnation != "" && now.Incarnation == l.record.Incarnation {
		l.record.seq = now.seq
		return nil
	}
	return device.Wrap(device.Conflict, "another node has the store now", err)
}
