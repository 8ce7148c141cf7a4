package command_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/device"
)

// TestWatchMissesNothing has watches begin while the command moves: each call
// is one transition further than the one before.
func TestWatchMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newBelt())
		d := attach(t, s, device.MQTT, 1000)
		var wg sync.WaitGroup
		for range 100 {
			c := send(t, s, device.Command{})
			for range 5 {
				wg.Go(func() {
					seen := 0
					err := s.Watch(t.Context(), device.ID{Tenant: dev.Tenant}, c.ID, func(r device.CommandRecord) error {
						if seen > 0 && len(r.Events) != seen+1 {
							t.Errorf("after %d events came %s", seen, trail(r))
						}
						seen = len(r.Events)
						return nil
					})
					if err != nil || seen != 4 {
						t.Errorf("%d events, %v", seen, err)
					}
				})
			}
			d.must(d.next(), device.Accepted)
			if err := respond(s, c.ID, 200, ""); err != nil {
				t.Fatal(err)
			}
		}
		wg.Wait()
	})
}

func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newBelt())
		c := send(t, s, device.Command{})
		enough := errors.New("enough")
		if err := s.Watch(t.Context(), dev, c.ID, func(device.CommandRecord) error { return enough }); !errors.Is(err, enough) {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if err := s.Watch(ctx, dev, c.ID, func(device.CommandRecord) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		stopped := make(chan error, 1)
		go func() { stopped <- s.Watch(t.Context(), dev, c.ID, func(device.CommandRecord) error { return nil }) }()
		synctest.Wait()
		shut(t, s)
		code(t, <-stopped, device.Unavailable)
		_, err := s.Send(t.Context(), device.Command{Tenant: dev.Tenant, Device: dev.Device})
		code(t, err, device.Unavailable)
		_, err = s.Attach(t.Context(), device.Session{Device: dev}, nil, nil)
		code(t, err, device.Unavailable)
	})
}

func TestShutdownBeforeStart(t *testing.T) {
	b := newBelt()
	if _, err := command.New(command.Config{}, b.log, b.mailbox, b.leases, nil); err == nil {
		t.Fatal("a node without a name was taken")
	}
	s, err := command.New(command.Config{Node: "n"}, b.log, b.mailbox, b.leases, nil)
	if err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	shut(t, s)
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		s := open(t, newBelt(), func(c *command.Config) { c.Registerer = reg })
		d := attach(t, s, device.MQTT, 1)
		send(t, s, device.Command{})
		send(t, s, device.Command{})
		d.must(d.next(), device.Accepted)
		got := map[string]float64{}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.Metric {
				name := f.GetName()
				for _, l := range m.Label {
					name += " " + l.GetValue()
				}
				got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		for name, want := range map[string]float64{
			"tributary_command_transitions_total mqtt SENT":      1,
			"tributary_command_transitions_total mqtt DELIVERED": 1,
			"tributary_command_active_devices":                   1,
			"tributary_command_deadlines":                        2,
			"tributary_command_removable":                        0,
		} {
			if got[name] != want {
				t.Errorf("%s = %v, want %v (%v)", name, got[name], want, got)
			}
		}
	})
}
