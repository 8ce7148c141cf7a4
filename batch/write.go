package batch

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// catchUp takes what others did to the record: paused, resumed or cancelled it. It
// fails when the batch is another node's.
func (r *runner) catchUp(ctx context.Context) error {
	known, err := r.s.find(r.k)
	if err != nil {
		return err
	}
	if err := r.take(&known); err != nil {
		return err
	}
	r.mu.Lock()
	if !r.batch.State.Stopped() && time.Since(r.batch.CreatedAt) > device.MaxBatchAge {
		r.batch.State, r.batch.Reason, r.dirty = device.BatchCancelled, "it is older than 30 days", true
	}
	stopped := r.batch.State.Stopped()
	r.mu.Unlock()
	if stopped && !r.withdrawn {
		r.withdrawn = true
		r.withdraw(ctx)
	}
	return nil
}

// take merges the record as it is stored into what this node knows. The state
// others chose wins, unless the batch has stopped here.
func (r *runner) take(stored *record) error {
	if stored.rev <= r.rec.rev {
		return nil
	}
	if stored.Driver != r.rec.Driver {
		return device.Errorf(device.Conflict, "another node drives the batch now")
	}
	r.rec.rev = stored.rev
	r.mu.Lock()
	defer r.mu.Unlock()
	if was := r.batch.State; !was.Stopped() && was != stored.Batch.State {
		r.batch.State, r.batch.Reason = stored.Batch.State, stored.Batch.Reason
	}
	return nil
}

// withdraw cancels what was sent and its devices do not have yet.
func (r *runner) withdraw(ctx context.Context) {
	r.mu.Lock()
	pending := make(map[string]string, len(r.pending))
	for id, i := range r.pending {
		p, n := r.at(i)
		pending[id] = p.Devices[n]
	}
	r.mu.Unlock()
	group := limited(r.s.cfg.Senders)
	for id, name := range pending {
		group.Go(func() error {
			_, err := r.s.commands.Cancel(ctx, device.ID{Tenant: r.k.tenant, Device: name}, id)
			if err != nil && device.CodeOf(err) != device.Precondition && ctx.Err() == nil {
				r.s.cfg.Logger.Warn("a command of a stopped batch was not withdrawn", "tenant", r.k.tenant, "batch", r.k.id, "command", id, "error", err)
			}
			return nil
		})
	}
	_ = group.Wait() // answers nothing
}

// drives answers an error once this node may have been taken for dead.
func (r *runner) drives() error {
	incarnation, err := r.s.cfg.Acting()
	if err == nil && incarnation != r.driver {
		err = device.Errorf(device.Unavailable, "this node was cut off from the others")
	}
	return err
}

// writeDown writes the parts that changed, and then the record: a record that says
// the batch has ended is the last thing written of it.
func (r *runner) writeDown(ctx context.Context, ended bool) error {
	if err := r.drives(); err != nil {
		return device.Wrap(device.Conflict, "another node may drive the batch now", err)
	}
	for n := range r.parts {
		if err := r.writePart(ctx, n); err != nil {
			return err
		}
	}
	for {
		r.mu.Lock()
		if !r.dirty && !ended {
			r.mu.Unlock()
			return nil
		}
		next := record{Batch: r.batch, Parts: r.rec.Parts, Driver: r.rec.Driver, Reach: r.rec.Reach, rev: r.rec.rev}
		r.dirty = false
		r.mu.Unlock()
		if ended {
			next.Batch.EndedAt = time.Now().Round(0).UTC()
		}
		err := r.s.write(ctx, r.k, &next)
		if err == nil {
			r.rec = next
			return nil
		}
		r.mu.Lock()
		r.dirty = true
		r.mu.Unlock()
		if device.CodeOf(err) != device.Conflict {
			return err
		}
		if err := r.reread(ctx); err != nil {
			return err
		}
	}
}

// reread takes the record anew after somebody else was faster.
func (r *runner) reread(ctx context.Context) error {
	if err := r.s.refresh(ctx, r.k); err != nil {
		return err
	}
	known, err := r.s.find(r.k)
	if err == nil && known.rev <= r.rec.rev { // a replica that is behind
		return device.Errorf(device.Unavailable, "the batch cannot be read as it stands")
	}
	if err != nil {
		return err
	}
	return r.take(&known)
}

func (r *runner) writePart(ctx context.Context, n int) error {
	r.mu.Lock()
	p := r.parts[n]
	if !p.dirty {
		r.mu.Unlock()
		return nil
	}
	p.dirty = false
	value, err := json.Marshal(p)
	rev := p.rev
	r.mu.Unlock()
	if err != nil {
		return err
	}
	rev, err = r.s.store.Put(ctx, r.k.tenant, r.rec.Parts, n, value, rev)
	if err != nil {
		return err // the parts are read anew by whoever drives next
	}
	p.rev = rev
	return nil
}

// Results calls fn with what became of each device's command, first of those that
// have ended and then as they end, each once, and returns once the batch has
// ended. Devices that were not sent anything are told last.
func (s *Service) Results(ctx context.Context, tenant, id string, fn func(device.BatchResult) error) error {
	r, err := s.find(key{tenant, id})
	if err != nil {
		return err
	}
	told := make([]bool, r.Batch.Total)
	parts := make([]*part, r.count())
	tell := func(n int, all bool) error {
		for i := range parts[n].Devices {
			at := n*PartSize + i
			if at >= len(told) || told[at] || !all && !parts[n].settled(i) {
				continue
			}
			told[at] = true
			if err := fn(parts[n].result(i)); err != nil {
				return err
			}
		}
		return nil
	}
	err = s.store.Follow(ctx, tenant, id, r.Parts, func(n int, value []byte) error {
		if n == Record {
			var r record
			if err := json.Unmarshal(value, &r); err != nil || r.Batch.EndedAt.IsZero() {
				return err
			}
			for n := range parts {
				if parts[n] != nil {
					if err := tell(n, true); err != nil {
						return err
					}
				}
			}
			return errTold
		}
		if n >= len(parts) {
			return nil
		}
		p, err := decodePart(value, 0)
		if err != nil {
			return err
		}
		parts[n] = p
		return tell(n, false)
	})
	if errors.Is(err, errTold) {
		return nil
	}
	return err
}

// errTold ends a Follow whose batch has ended.
var errTold = errors.New("batch: everything was told")
