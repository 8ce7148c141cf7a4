package batch

import (
	"context"
	"errors"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// Run knows the batches, and drives those nobody else does, until Shutdown, or until
// ctx ends.
func (s *Service) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, s.cancel)()
	s.mu.Lock()
	if s.ctx.Err() == nil { // else it was shut down before
		s.wg.Go(s.read)
		if !s.cfg.Bystander {
			s.wg.Go(s.drive)
		}
	}
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

// Shutdown stops; what was being driven goes on where it is taken up again. It
// works before Run and twice.
func (s *Service) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.cancel() // nothing begins after this
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() { s.wg.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Service) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.ctx.Done():
	}
}

// drive takes up every batch that has not ended and that nobody drives, and
// forgets those that ended long ago.
func (s *Service) drive() {
	for s.ctx.Err() == nil {
		for _, k := range s.idle() {
			if r, err := s.claim(k); err == nil {
				s.start(k, r)
			} else if device.CodeOf(err) != device.Conflict && s.ctx.Err() == nil {
				s.cfg.Logger.Warn("a batch was not taken up; trying again", "tenant", k.tenant, "batch", k.id, "error", err)
			}
		}
		for k, r := range s.old() {
			s.removeParts(&r)
			if err := s.store.Remove(s.ctx, k.tenant, k.id, Record); err != nil && s.ctx.Err() == nil {
				s.cfg.Logger.Warn("an old batch was not forgotten; trying again", "tenant", k.tenant, "batch", k.id, "error", err)
			}
		}
		select {
		case <-s.stir:
		case <-time.After(time.Second): // for drivers that died
		case <-s.ctx.Done():
		}
	}
}

// idle lists what this node may take up.
func (s *Service) idle() (all []key) {
	incarnation, err := s.cfg.Acting()
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, r := range s.known {
		other := r.Driver != "" && r.Driver != incarnation && s.cfg.Lives(r.Driver)
		if r.Batch.EndedAt.IsZero() && !other && s.driving[k] == nil {
			all = append(all, k)
		}
	}
	return all
}

func (s *Service) old() map[key]record {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[key]record{}
	for k, r := range s.known {
		if at := r.Batch.EndedAt; !at.IsZero() && time.Since(at) > s.cfg.Keep {
			all[k] = *r
		}
	}
	return all
}

// claim makes this node the driver.
func (s *Service) claim(k key) (*record, error) {
	incarnation, err := s.cfg.Acting()
	if err != nil {
		return nil, err
	}
	r, err := s.find(k)
	if err != nil {
		return nil, err
	}
	r.Driver = incarnation
	if err := s.write(s.ctx, k, &r); err != nil {
		return nil, errors.Join(err, s.refresh(s.ctx, k))
	}
	return &r, nil
}

// start runs a batch until it has ended or is another node's.
func (s *Service) start(k key, r *record) {
	run := newRunner(s, k, r)
	s.mu.Lock()
	s.driving[k] = run
	s.mu.Unlock()
	s.wg.Go(func() {
		err := run.run()
		if err != nil && s.ctx.Err() == nil {
			s.cfg.Logger.Warn("a batch was let go; it is taken up again", "tenant", k.tenant, "batch", k.id, "error", err)
			s.sleep(time.Second)
			_ = s.refresh(s.ctx, k) // its conflict, if it was one, is news
		}
		s.mu.Lock()
		delete(s.driving, k)
		s.announce()
		s.mu.Unlock()
	})
}
