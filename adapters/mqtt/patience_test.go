package mqtt

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestPatience ends as a context with a deadline does, whether somebody waits or not.
func TestPatience(t *testing.T) {
	for _, waits := range []bool{false, true} {
		for _, cuts := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{cfg: Config{ConnectTimeout: time.Second}}
				s.ctx, s.cut = context.WithCancel(context.Background())
				defer s.cut()
				p := s.patience()
				defer p.end()
				if waits {
					p.Done()
				}
				if err := p.Err(); err != nil {
					t.Errorf("waits %v: over at once: %v", waits, err)
				}
				want := context.DeadlineExceeded
				if cuts {
					s.cut()
					want = context.Canceled
				} else {
					time.Sleep(time.Second)
				}
				synctest.Wait()
				if err := p.Err(); !errors.Is(err, want) {
					t.Errorf("waits %v: ended with %v, want %v", waits, err, want)
				}
				<-p.Done()
			})
		}
	}
}
