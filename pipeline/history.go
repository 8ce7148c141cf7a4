package pipeline

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// Follow calls fn for every message after a position, in stream order, and goes on
// with those to come until ctx ends or fn answers an error, which Follow answers.
// With after nil it starts with the next message to be stored. What the stream no
// longer keeps comes from the store, as far as that has it, also when the stream
// ran away from a fn that was slow. A position in the future is Invalid. fn may
// block: that slows only this reader.
func (b *Belt) Follow(ctx context.Context, store storage.Reader, q FeedQuery, after *device.Position, fn func(device.Stored) error) error {
	h := history{store: store, q: q, after: after, fn: fn}
	for {
		err := b.live(ctx, q, h.after, h.give)
		var old *TooOldError
		if h.after == nil || !errors.As(err, &old) {
			return err
		}
		if err := h.catchUp(ctx, old.First); err != nil {
			return err
		}
	}
}

// Pages of the store. That of one device goes backwards in order of arrival, and the
// stream's order is wanted: historyWindow is how far apart two messages of one device
// may be in both orders, far more than what is ever in flight.
const (
	historyPageAll = 5000
	historyPage    = 200
	historyWindow  = 1000
)

// history is one reader's way through what was stored.
type history struct {
	store storage.Reader
	q     FeedQuery
	after *device.Position // everything up to here was given; nil: only what is to come is wanted
	fn    func(device.Stored) error
}

func (h *history) give(m device.Stored) error {
	if err := h.fn(m); err != nil {
		return err
	}
	at := m.Position
	h.after = &at
	return nil
}

// catchUp gives what the store has before end. The store may have more; that is in
// the stream, too.
func (h *history) catchUp(ctx context.Context, end device.Position) error {
	next, err := h.store.After(ctx, storage.AfterQuery{Tenant: h.q.Tenant, After: *h.after, Limit: 1})
	if err != nil {
		return err
	}
	if len(next) > 0 && next[0].Position.Before(end) {
		catchUp := h.ofTenant
		if h.q.Device != "" {
			catchUp = h.ofDevice
		}
		if err := catchUp(ctx, end); err != nil {
			return err
		}
	}
	// The next message wanted is the one at end: there is none before it.
	if before := (device.Position{Epoch: end.Epoch, Seq: max(end.Seq, 1) - 1}); h.after.Before(before) {
		h.after = &before
	}
	return nil
}

func (h *history) ofTenant(ctx context.Context, end device.Position) error {
	for at := *h.after; ; {
		page, err := h.store.After(ctx, storage.AfterQuery{Tenant: h.q.Tenant, After: at, Limit: historyPageAll})
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			m := &page[i]
			if at = m.Position; !at.Before(end) {
				return nil
			}
			if !h.q.takes(&m.Message) {
				continue
			}
			if err := h.give(*m); err != nil {
				return err
			}
		}
	}
}

// ofDevice walks back to the beginning remembering only cursors, and then forth.
func (h *history) ofDevice(ctx context.Context, end device.Position) error {
	newest, cursors, err := h.walkBack(ctx)
	if err != nil {
		return err
	}
	window := []device.Stored{}
	take := func(messages []device.Stored, keep int) error {
		for _, m := range messages {
			if h.after.Before(m.Position) && m.Position.Before(end) && h.q.takes(&m.Message) {
				window = append(window, m)
			}
		}
		slices.SortFunc(window, func(a, b device.Stored) int { return a.Position.Compare(b.Position) })
		for len(window) > keep {
			if err := h.give(window[0]); err != nil {
				return err
			}
			window = window[1:]
		}
		return nil
	}
	for _, cursor := range slices.Backward(cursors) {
		page, err := h.page(ctx, cursor, historyPage)
		if err != nil {
			return err
		}
		if err := take(page.Messages, historyWindow); err != nil {
			return err
		}
	}
	return take(newest, 0)
}

// walkBack answers the newest message and the cursors of all pages before it that
// hold something after h.after. Counted from that message the pages stay what they
// are while new messages arrive.
func (h *history) walkBack(ctx context.Context) (newest []device.Stored, cursors []string, err error) {
	page, err := h.page(ctx, "", 1)
	newest = page.Messages
	for err == nil && page.Next != "" {
		cursor := page.Next
		if page, err = h.page(ctx, cursor, historyPage); err != nil {
			break
		}
		wanted := slices.ContainsFunc(page.Messages, func(m device.Stored) bool { return h.after.Before(m.Position) })
		if !wanted && len(page.Messages) > 0 {
			break
		}
		cursors = append(cursors, cursor)
	}
	return newest, cursors, err
}

func (h *history) page(ctx context.Context, cursor string, limit int) (storage.MessagePage, error) {
	q := storage.MessageQuery{Tenant: h.q.Tenant, Device: h.q.Device, Cursor: cursor, Limit: limit}
	if h.q.Channel != "" && !h.q.Below {
		q.Channel = &h.q.Channel
	}
	return h.store.Messages(ctx, q)
}

// since answers the position before a tenant's first message that was stored at a
// time or later, and before end; without one, that before end. It is never zero: an
// earlier life of the stream counts.
func since(ctx context.Context, store storage.Reader, tenant string, at time.Time, end device.Position) (device.Position, error) {
	at = at.Truncate(time.Microsecond) // as the store keeps it
	var failed error
	late := func(p device.Position) bool { // nothing after p is earlier than at
		if failed != nil {
			return true
		}
		found, err := store.After(ctx, storage.AfterQuery{Tenant: tenant, After: p, Limit: 1})
		failed = err
		return err != nil || len(found) == 0 || !found[0].Position.Before(end) || !found[0].StoredAt.Before(at)
	}
	const last = math.MaxInt64 // sequence
	epoch := max(1, firstOf(end.Epoch, func(n uint64) bool { return late(device.Position{Epoch: n, Seq: last}) }))
	most := uint64(last)
	if epoch == end.Epoch {
		most = max(end.Seq, 1) - 1
	}
	seq := firstOf(most, func(n uint64) bool { return late(device.Position{Epoch: epoch, Seq: n}) })
	return device.Position{Epoch: epoch, Seq: seq}, failed
}

// firstOf answers the least number up to most of which is holds, when it holds of
// all that follow one of which it does; most when there is none.
func firstOf(most uint64, is func(uint64) bool) uint64 {
	low, high := uint64(0), most
	for low < high {
		if mid := low + (high-low)/2; is(mid) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}
