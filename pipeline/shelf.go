package pipeline

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// shelf holds the entries that were read and wait to be written: so many at
// most, and so many bytes, because one entry may be 100 bytes or a megabyte.
type shelf struct {
	c    chan entry
	room *semaphore.Weighted
}

func newShelf(entries int) *shelf {
	return &shelf{c: make(chan entry, entries), room: semaphore.NewWeighted(maxBatchBytes)}
}

// put waits for room.
func (s *shelf) put(ctx context.Context, e entry) error {
	if err := s.room.Acquire(ctx, s.weight(e)); err != nil {
		return err
	}
	select {
	case s.c <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// took makes room for what was received of c.
func (s *shelf) took(e entry) { s.room.Release(s.weight(e)) }

// weight is no more than there is room, so that every entry finds some.
func (s *shelf) weight(e entry) int64 { return min(int64(e.size), maxBatchBytes) }
