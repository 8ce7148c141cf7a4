package command_test

import (
	"testing"
	"testing/synctest"

	"github.com/tributary-iot/tributary/device"
)

// TestHeed: who heeds hears of every transition, of whichever device, and of none
// after it stopped.
func TestHeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newBelt())
		heard := make(chan string, 100)
		stop := s.Heed(func(e device.StoredEvent) { heard <- e.Command + " " + e.State.String() })
		d := attach(t, s, device.MQTT, 10)
		id := send(t, s, device.Command{OneWay: true}).ID
		d.must(d.next(), device.Accepted)
		is(t, <-heard, id+" SENT")
		is(t, <-heard, id+" DELIVERED")
		stop()
		send(t, s, device.Command{})
		d.next()
		synctest.Wait()
		if len(heard) != 0 {
			t.Errorf("heard %s after it stopped", <-heard)
		}
	})
}

// TestByKey finds a command by its key in the mailbox and, when it is gone from
// there, in the store.
func TestByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBelt()
		s := open(t, b)
		id := send(t, s, device.Command{Key: "k", OneWay: true}).ID
		for range 2 {
			r, err := s.ByKey(t.Context(), dev, "k")
			if err != nil || r.Command.ID != id {
				t.Fatalf("found %+v, %v", r, err)
			}
			d := attach(t, s, device.MQTT, 1)
			synctest.Wait()
			if len(d.got) > 0 {
				d.must(d.next(), device.Accepted)
			}
			d.at.Detach("")
			b.persist()
			synctest.Wait()
		}
		_, err := s.ByKey(t.Context(), dev, "other")
		code(t, err, device.NotFound)
	})
}
