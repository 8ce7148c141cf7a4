package api

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
	"github.com/tributary-iot/tributary/storage"
)

// Subscribe streams messages in stream order. What came after a position and is
// no longer in the stream is answered from the store first.
func (t *telemetry) Subscribe(req *pb.SubscribeRequest, stream grpc.ServerStreamingServer[pb.Message]) error {
	id, err := parseScope(req.GetParent())
	if err != nil {
		return err
	}
	var after *device.Position
	if req.GetPosition() != "" {
		p, err := devicepb.DecodePosition(req.GetPosition())
		if err != nil {
			return err
		}
		after = &p
	}
	ctx, cancel := t.s.untilStop(stream.Context())
	defer cancel()
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	s := subscription{reader: t.s.needs.Reader, id: id, after: after, send: stream.Send}
	return t.s.streamEnd(s.run(ctx, t.s.needs.Feed))
}

// subscription is one caller's way through the messages.
type subscription struct {
	reader storage.Reader
	id     device.ID
	after  *device.Position // everything up to here was sent; nil: only what is to come
	send   func(*pb.Message) error
}

func (s *subscription) run(ctx context.Context, feed Feed) error {
	for {
		err := feed.Follow(ctx, s.id.Tenant, s.id.Device, s.after, s.deliver)
		var gone OutOfStream
		if s.after == nil || !errors.As(err, &gone) {
			return err
		}
		catchUp := s.catchUp
		if s.id.Device == "" {
			catchUp = s.catchUpAll
		}
		if err := catchUp(ctx, gone.FirstKept()); err != nil {
			return err
		}
	}
}

// catchUpAll sends what the store has of the tenant before end. The store may
// have more; that is in the stream, too.
func (s *subscription) catchUpAll(ctx context.Context, end device.Position) error {
	for {
		page, err := s.reader.After(ctx, storage.AfterQuery{Tenant: s.id.Tenant, After: *s.after, Limit: catchUpAllPage})
		if err != nil {
			return err
		}
		for _, m := range page {
			if !m.Position.Before(end) {
				page = nil
				break
			}
			if err := s.deliver(m); err != nil {
				return err
			}
		}
		if len(page) == 0 {
			s.skipTo(end)
			return nil
		}
	}
}

// skipTo makes the next message wanted the one at end: there is none before it.
func (s *subscription) skipTo(end device.Position) {
	if before := (device.Position{Epoch: end.Epoch, Seq: max(end.Seq, 1) - 1}); s.after.Before(before) {
		s.after = &before
	}
}

func (s *subscription) deliver(m device.Stored) error {
	if err := s.send(devicepb.StoredToProto(&m)); err != nil {
		return err
	}
	at := m.Position
	s.after = &at
	return nil
}

// catchUpAllPage is how many messages of a tenant are asked for at a time.
const catchUpAllPage = 5000

// Of one device the store pages backwards in order of arrival, and the stream's
// order is wanted. catchUpPage is one page; catchUpWindow is how far apart two messages
// of one device may be in both orders, far more than what is ever in flight.
const (
	catchUpPage   = 200
	catchUpWindow = 1000
)

// catchUp sends what the store has after s.after and before end: it walks back
// to the beginning remembering only cursors, and then forth.
func (s *subscription) catchUp(ctx context.Context, end device.Position) error {
	newest, cursors, err := s.walkBack(ctx)
	if err != nil {
		return err
	}
	window := []device.Stored{}
	take := func(messages []device.Stored, keep int) error {
		for _, m := range messages {
			if s.after.Before(m.Position) && m.Position.Before(end) {
				window = append(window, m)
			}
		}
		slices.SortFunc(window, func(a, b device.Stored) int { return a.Position.Compare(b.Position) })
		for len(window) > keep {
			if err := s.deliver(window[0]); err != nil {
				return err
			}
			window = window[1:]
		}
		return nil
	}
	for _, cursor := range slices.Backward(cursors) {
		page, err := s.page(ctx, cursor, catchUpPage)
		if err != nil {
			return err
		}
		if err := take(page.Messages, catchUpWindow); err != nil {
			return err
		}
	}
	if err := take(newest, 0); err != nil {
		return err
	}
	s.skipTo(end)
	return nil
}

// walkBack answers the newest message and the cursors of all pages before it
// that hold something after s.after. Counted from that message the pages stay
// what they are while new messages arrive.
func (s *subscription) walkBack(ctx context.Context) (newest []device.Stored, cursors []string, err error) {
	page, err := s.page(ctx, "", 1)
	newest = page.Messages
	for err == nil && page.Next != "" {
		cursor := page.Next
		if page, err = s.page(ctx, cursor, catchUpPage); err != nil {
			break
		}
		wanted := slices.ContainsFunc(page.Messages, func(m device.Stored) bool { return s.after.Before(m.Position) })
		if !wanted && len(page.Messages) > 0 {
			break
		}
		cursors = append(cursors, cursor)
	}
	return newest, cursors, err
}

func (s *subscription) page(ctx context.Context, cursor string, limit int) (storage.MessagePage, error) {
	return s.reader.Messages(ctx, storage.MessageQuery{Tenant: s.id.Tenant, Device: s.id.Device, Cursor: cursor, Limit: limit})
}
