package command_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/device"
)

// readMailbox counts how often a device's requests are read, and fails the next reads.
type readMailbox struct {
	mailbox
	reads, fails *atomic.Int32
}

func (m readMailbox) Requests(ctx context.Context, id device.ID) ([]device.StoredEvent, error) {
	m.reads.Add(1)
	if m.fails.Add(-1) >= 0 {
		return nil, errors.New("the stream is not there")
	}
	return m.mailbox.Requests(ctx, id)
}

// TestQuietDeviceIsNotRead: on a node that is alone a device comes and goes without
// its part of the streams being read; what is sent to it is read, and arrives all the same.
func TestQuietDeviceIsNotRead(t *testing.T) {
	b := newBelt()
	var reads, fails atomic.Int32
	s, err := command.New(command.Config{Node: "node-1", Alone: true, RetryAfter: 1, Stored: b.store.stored},
		b.log, readMailbox{b.mailbox, &reads, &fails}, b.leases, b.store)
	if err == nil {
		err = s.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, s) })

	first := attach(t, s, device.MQTT, 1)
	newer := attach(t, s, device.MQTT, 10)
	<-first.lost
	first.at.Detach("gone")
	if n := reads.Load(); n != 0 {
		t.Errorf("the device's requests were read %d times for nothing", n)
	}
	fails.Store(2) // it is tried again
	while := send(t, s, device.Command{Name: "while it is here"})
	d := newer.next()
	is(t, d.Command.ID, while.ID)
	newer.must(d, device.Accepted)
	if err := respond(s, while.ID, 200, ""); err != nil {
		t.Error(err)
	}
	newer.at.Detach("gone")

	other := device.ID{Tenant: dev.Tenant, Device: "dev2"}
	waiting, err := s.Send(t.Context(), device.Command{Tenant: other.Tenant, Device: other.Device, Name: "before it came"})
	if err != nil {
		t.Fatal(err)
	}
	d = attachAs(t, s, device.Session{Device: other, Protocol: device.MQTT}, 1).next()
	is(t, d.Command.ID, waiting.Command.ID)
}
