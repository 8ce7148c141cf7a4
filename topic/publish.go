package topic

import (
	"context"

	"github.com/tributary-iot/tributary/device"
)

// Publish implements adapters.Topics.
func (s *Service) Publish(p *device.Publication, done func(error)) error {
	s.metrics.published[p.QoS].Inc()
	if p.QoS > 0 {
		return s.log.Append(p, done)
	}
	if err := s.log.Cast(p); err != nil {
		return err
	}
	done(nil)
	return nil
}

// Published implements adapters.Topics. A stream that ends before the place has lost
// what it had there, and may have the message in any place since.
func (s *Service) Published(ctx context.Context, src device.Source, tenant, topic, mark string, after device.Position) (found bool, err error) {
	end, err := s.log.End(ctx, src)
	if err == nil {
		if after.Epoch != end.Epoch || after.Seq > end.Seq {
			after.Seq = 0
		}
		found, err = s.log.Find(ctx, src, tenant, topic, mark, after.Seq)
	}
	if err != nil {
		err = device.Wrap(device.Unavailable, "the message cannot be looked for now, send it again", err)
	}
	return found, err
}

// Retain implements adapters.Topics.
func (s *Service) Retain(p *device.Publication, done func(uint64, error)) error {
	return s.log.Retain(p, done)
}

// Send implements adapters.Topics.
func (s *Service) Send(ctx context.Context, c device.Command) (device.CommandRecord, error) {
	return s.commands.Send(ctx, c)
}
