package https

import (
	"context"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// receipt waits for one done callback of the gate. It is used again once done
// has been called, and given up when the wait ended first.
type receipt struct {
	answer chan error
	done   func(error)
	timer  *time.Timer
}

func newReceipt() *receipt {
	r := &receipt{answer: make(chan error, 1), timer: time.NewTimer(time.Hour)}
	r.done = func(err error) { r.answer <- err }
	return r
}

// confirm starts something that ends in done, and waits for that end.
func (s *Server) confirm(ctx context.Context, start func(done func(error)) error) error {
	r := s.receipts.Get().(*receipt)
	if err := start(r.done); err != nil {
		s.receipts.Put(r)
		return err
	}
	r.timer.Reset(s.cfg.AckTimeout)
	select {
	case err := <-r.answer:
		r.timer.Stop()
		s.receipts.Put(r)
		return err
	case <-ctx.Done():
		r.timer.Stop()
		return errGone
	case <-r.timer.C:
		return device.Errorf(device.Unavailable, "it is not known yet whether this was stored; send it again, with the same Idempotency-Key if it had one")
	}
}
