package command

import (
	"bytes"
	"context"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// Send makes a command durable and answers it as QUEUED. It sets ID and
// CreatedAt, and the deadline and response timeout where they are zero.
//
// With a Key, sending again the same content (name, payload, content type,
// one-way) answers the first command as it stands, and other content is
// refused with Conflict. The device's commands in the mailbox and the newest
// 1,000 of the device in the store are looked at; a key older than that counts
// as new. Without one, a Send that failed as Unavailable may have been stored.
//
// Refused are: Invalid and TooLarge contents; Busy, when the device has
// Config.MaxWaiting commands that have not ended.
func (s *Service) Send(ctx context.Context, c device.Command) (device.CommandRecord, error) {
	if err := s.prepare(&c); err != nil {
		return device.CommandRecord{}, err
	}
	if c.Key == "" {
		ev, err := s.put(ctx, &c, AnyPlace)
		if err != nil {
			return device.CommandRecord{}, err
		}
		return newLive(ev).record(), nil
	}
	old, err := s.keyInStore(ctx, &c)
	if err != nil {
		return device.CommandRecord{}, err
	}
	return s.sendOnce(ctx, c, old)
}

// SendNew is Send for a caller who knows that no command with the key has ended yet:
// the device's commands in the mailbox are looked at, the store is not asked.
func (s *Service) SendNew(ctx context.Context, c device.Command) (device.CommandRecord, error) {
	if c.Key == "" {
		return s.Send(ctx, c)
	}
	if err := s.prepare(&c); err != nil {
		return device.CommandRecord{}, err
	}
	return s.sendOnce(ctx, c, nil)
}

func (s *Service) prepare(c *device.Command) error {
	at := now()
	c.ID, c.CreatedAt = ulid.Make().String(), at
	if c.Deadline.IsZero() {
		c.Deadline = at.Add(s.cfg.DefaultTTL)
	}
	if c.OneWay {
		c.ResponseTimeout = 0
	} else if c.ResponseTimeout == 0 {
		c.ResponseTimeout = s.cfg.ResponseTimeout
	}
	if err := c.Validate(); err != nil {
		return err
	}
	switch {
	case !c.Deadline.After(at):
		return device.Errorf(device.Invalid, "the deadline %s has passed already", c.Deadline.Format(time.RFC3339))
	case c.Deadline.After(at.Add(s.cfg.MaxTTL)):
		return device.Errorf(device.Invalid, "the deadline is further away than %v", s.cfg.MaxTTL)
	case c.ResponseTimeout < 0 || c.ResponseTimeout > s.cfg.MaxTTL:
		return device.Errorf(device.Invalid, "the response timeout %v is not between 0 and %v", c.ResponseTimeout, s.cfg.MaxTTL)
	case c.RetryPause < 0 || c.RetryPause > s.cfg.MaxTTL:
		return device.Errorf(device.Invalid, "the retry pause %v is not between 0 and %v", c.RetryPause, s.cfg.MaxTTL)
	case len(c.Payload) > s.cfg.MaxPayload:
		return device.Errorf(device.TooLarge, "the payload is %d bytes long, the limit is %d", len(c.Payload), s.cfg.MaxPayload)
	}
	return s.room(c.ForDevice())
}

func (s *Service) room(id device.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return device.Errorf(device.Unavailable, "the server is stopping")
	}
	if n := s.table.waiting[id]; n >= s.cfg.MaxWaiting {
		return device.Errorf(device.Busy, "%d commands for %s have not ended yet, the limit is %d", n, id, s.cfg.MaxWaiting)
	}
	return nil
}

// put stores c and has the table know it before anybody can ask for it; the
// device's actor hears of it by the feed.
func (s *Service) put(ctx context.Context, c *device.Command, expect uint64) (device.StoredEvent, error) {
	seq, err := s.mailbox.Put(ctx, c, expect)
	switch device.CodeOf(err) {
	case device.Invalid, device.TooLarge, device.Conflict:
		return device.StoredEvent{}, err
	}
	if err != nil {
		return device.StoredEvent{}, unavailable(err)
	}
	ev := device.StoredEvent{CommandEvent: created(c), Position: device.Position{Seq: seq}}
	ev.Request = c
	s.mu.Lock()
	s.track(func() { s.table.request(&ev) })
	s.mu.Unlock()
	return ev, nil
}

// sendOnce runs in the device's actor, so that of two with one key the second
// sees the first; against other nodes Put's compare-and-set does the same. old is
// the one in the store, if any.
func (s *Service) sendOnce(ctx context.Context, c device.Command, old *device.CommandRecord) (device.CommandRecord, error) {
	return ask(ctx, s, c.ForDevice(), func(a *actor) (device.CommandRecord, error) { return a.putOnce(&c, old) })
}

// ByKey answers the device's command with a key, looked for where Send looks for
// it; NotFound when there is none.
func (s *Service) ByKey(ctx context.Context, id device.ID, key string) (device.CommandRecord, error) {
	old, err := s.keyInStore(ctx, &device.Command{Tenant: id.Tenant, Device: id.Device, Key: key})
	if err != nil {
		return device.CommandRecord{}, err
	}
	return ask(ctx, s, id, func(a *actor) (device.CommandRecord, error) {
		for _, known := range a.cmds {
			if known.cmd.Key == key {
				return known.record(), nil
			}
		}
		if old == nil {
			return device.CommandRecord{}, errGone
		}
		return *old, nil
	})
}

func (a *actor) putOnce(c *device.Command, old *device.CommandRecord) (device.CommandRecord, error) {
	for try := 0; ; try++ {
		for _, known := range a.cmds {
			if known.cmd.Key == c.Key {
				return known.record(), sameContent(known.cmd, c)
			}
		}
		if old != nil {
			return *old, sameContent(&old.Command, c)
		}
		ctx, cancel := a.timeout()
		ev, err := a.s.put(ctx, c, a.lastReq)
		cancel()
		if err == nil {
			rec := newLive(ev).record()
			a.admit(ev)
			return rec, nil
		}
		if device.CodeOf(err) != device.Conflict || try == maxConflicts {
			a.loaded = false // it may be stored: the next with this key shall see it
			return device.CommandRecord{}, err
		}
		if err := a.load(); err != nil {
			return device.CommandRecord{}, err
		}
	}
}

func sameContent(first, again *device.Command) error {
	if first.Name == again.Name && first.OneWay == again.OneWay &&
		first.ContentType == again.ContentType && bytes.Equal(first.Payload, again.Payload) {
		return nil
	}
	return device.Errorf(device.Conflict, "key %q was used for another command (%s)", again.Key, first.ID)
}

// keyInStore looks for the key among the device's newest commands in the store.
// One that is still in the mailbox as well is found there first.
func (s *Service) keyInStore(ctx context.Context, c *device.Command) (*device.CommandRecord, error) {
	if s.history == nil {
		return nil, nil
	}
	page, err := s.history.Commands(ctx, storage.CommandQuery{Tenant: c.Tenant, Device: c.Device, Key: c.Key, Limit: 1000})
	if err != nil {
		return nil, device.Wrap(device.Unavailable, "the store cannot be asked whether the key was used: try again", err)
	}
	for i := range page.Records {
		if page.Records[i].Command.Key == c.Key { // a store of an older release answers them all
			return &page.Records[i], nil
		}
	}
	return nil, nil
}
