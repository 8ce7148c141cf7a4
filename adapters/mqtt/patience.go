package mqtt

import (
	"context"
	"sync"
	"time"
)

// patience is the context of what a session asks of the house: it ends after
// Config.ConnectTimeout, or with the server. Most answers are there at once, so a timer
// is made only when somebody waits.
type patience struct {
	context.Context // the server's
	until           time.Time

	mu     sync.Mutex
	timed  context.Context // nil until somebody waits
	cancel context.CancelFunc
}

// patience begins now; its user calls end.
func (s *Server) patience() *patience {
	return &patience{Context: s.ctx, until: time.Now().Add(s.cfg.ConnectTimeout)}
}

// Deadline implements context.Context.
func (p *patience) Deadline() (time.Time, bool) { return p.until, true }

// Done implements context.Context.
func (p *patience) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timed == nil {
		p.timed, p.cancel = context.WithDeadline(p.Context, p.until)
	}
	return p.timed.Done()
}

// Err implements context.Context.
func (p *patience) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.timed != nil:
		return p.timed.Err()
	case p.Context.Err() == nil && !time.Now().Before(p.until):
		return context.DeadlineExceeded
	}
	return p.Context.Err()
}

// end ends the waiting.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel != nil {
		p.cancel()
	}
}
