package topic

import (
	"context"
	"sync"

	"github.com/tributary-iot/tributary/device"
)

// Publish implements adapters.Topics.
func (s *Service) Publish(p *device.Publication, done func(error)) error {
	s.metrics.published[p.QoS].Inc()
	if !p.Retain {
		return s.pass(p, done)
	}
	// Both are under way at once, in the order of their publisher.
	both := &pair{left: 2, done: done}
	if err := s.log.Retain(p, both.finished); err != nil {
		return err
	}
	if err := s.pass(p, both.finished); err != nil {
		both.finished(err)
	}
	return nil
}

// pass hands p on, without what is retained.
func (s *Service) pass(p *device.Publication, done func(error)) error {
	if p.QoS > 0 {
		return s.log.Append(p, func(_ uint64, err error) { done(err) })
	}
	if err := s.log.Cast(p); err != nil {
		return err
	}
	done(nil)
	return nil
}

// Published implements adapters.Topics.
func (s *Service) Published(ctx context.Context, src device.Source, tenant, topic, mark string, after uint64) (bool, error) {
	found, err := s.log.Find(ctx, src, tenant, topic, mark, after)
	if err != nil {
		err = device.Wrap(device.Unavailable, "the message cannot be looked for now, send it again", err)
	}
	return found, err
}

// Retain implements adapters.Topics.
func (s *Service) Retain(p *device.Publication, done func(error)) error {
	return s.log.Retain(p, done)
}

// Send implements adapters.Topics.
func (s *Service) Send(ctx context.Context, c device.Command) (device.CommandRecord, error) {
	return s.commands.Send(ctx, c)
}

// pair is done when both its halves are.
type pair struct {
	mu   sync.Mutex
	left int
	err  error
	done func(error)
}

func (p *pair) finished(err error) {
	p.mu.Lock()
	p.left--
	if p.err == nil {
		p.err = err
	}
	left, err := p.left, p.err
	p.mu.Unlock()
	if left == 0 {
		p.done(err)
	}
}
