package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	lookEvery  = 200 * time.Millisecond
	mendFirst  = 250 * time.Millisecond // wait before the disk is tried, doubling
	mendLast   = 5 * time.Second
	calmAfter  = time.Minute // without a fault: the next one is tried at once again
	trialBytes = 4 << 20     // the disk must take so much, synced, before a restart
)

// watch looks for faults until ctx ends.
func (s *Server) watch(ctx context.Context) {
	wait, last, silent := mendFirst, time.Time{}, time.Time{}
	for pause(ctx, lookEvery) {
		ns := s.ns.Load()
		if ns == nil {
			continue
		}
		err := s.looks.at(ns)
		if errors.Is(err, errSilent) {
			silent = s.heardNothing(silent)
			continue
		}
		silent = time.Time{}
		if err == nil {
			continue
		}
		if time.Since(last) > calmAfter {
			wait = mendFirst
		}
		s.fault.Store(&fault{err, time.Now()})
		s.opts.Logger.Error("the stream cannot be written; nothing is acknowledged; it is restarted once the disk takes data again", "error", err)
		wait = s.mend(ctx, wait)
		last = time.Now()
	}
}

// heardNothing notes that the server is silent, since when it answers.
func (s *Server) heardNothing(since time.Time) time.Time {
	if since.IsZero() {
		return time.Now()
	}
	select {
	case <-s.stuck:
	default:
		if time.Since(since) >= s.opts.stuckAfter {
			s.opts.Logger.Error("the stream is stuck; this process has to be started anew", "error", errSilent)
			close(s.stuck)
		}
	}
	return since
}

// mend tries until the server is healthy again, and answers how long to wait
// before the next fault is mended, so that a disk that fails again and again
// does not keep the server restarting.
func (s *Server) mend(ctx context.Context, wait time.Duration) time.Duration {
	seen := s.fault.Load()
	for pause(ctx, wait) {
		wait = min(2*wait, mendLast)
		err := tryDisk(s.opts.Dir)
		if err == nil {
			err = s.restart()
		}
		if err == nil {
			s.restarts.Add(1)
			s.fault.Store(nil)
			s.opts.Logger.Info("the stream was restarted and takes messages again", "took", time.Since(seen.since).Round(time.Millisecond))
			return wait
		}
		s.fault.Store(&fault{fmt.Errorf("%w (restart: %w)", seen.err, err), seen.since})
	}
	return wait
}

// restart ends the sick server and begins a new one on what is on the disk.
func (s *Server) restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	end(s.ns.Swap(nil))
	ns, err := s.start(true)
	if err != nil {
		return err
	}
	if err := sick(ns); err != nil {
		end(ns)
		return err
	}
	if s.listening {
		if err := listen(ns, s.keeper.readers.Addr); err != nil {
			end(ns)
			return err
		}
	}
	s.ns.Store(ns)
	return nil
}

// tryDisk writes and syncs something.
func tryDisk(dir string) (err error) {
	f, err := os.CreateTemp(dir, "trial-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if _, err := f.Write(make([]byte, trialBytes)); err != nil {
		return err
	}
	return f.Sync()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// pause answers false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
