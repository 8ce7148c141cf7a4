package storagetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

const (
	commands      = "COMMANDS"
	commandEvents = "COMMAND_EVENTS"
)

// writer writes command events as the next of their stream.
type writer struct {
	*rig
	at map[string]device.Position
}

func newWriter(r *rig) *writer {
	return &writer{rig: r, at: map[string]device.Position{commands: {Epoch: 1}, commandEvents: {Epoch: 1}}}
}

func (w *writer) write(stream string, events ...device.CommandEvent) {
	w.t.Helper()
	pos := w.at[stream]
	b := storage.Batch{Stream: stream, Epoch: pos.Epoch, From: pos.Seq}
	for _, e := range events {
		pos.Seq++
		b.Events = append(b.Events, device.StoredEvent{CommandEvent: e, Position: pos, StoredAt: e.At})
	}
	b.To = pos.Seq
	w.must(w.st.Write(w.t.Context(), b))
	w.at[stream] = pos
}

func command(tenant, dev, id string, s float64) *device.Command {
	return &device.Command{ID: id, Tenant: tenant, Device: dev, Name: "heat", Payload: []byte(`{"on":true}`), ContentType: "application/json",
		Key: "k" + id, CreatedAt: after(s), Deadline: after(s + 3600), ResponseTimeout: time.Minute, Sender: "app@" + tenant}
}

func creation(c *device.Command) device.CommandEvent {
	return device.CommandEvent{Command: c.ID, Tenant: c.Tenant, Device: c.Device, State: device.StateQueued, At: c.CreatedAt, Request: c}
}

func transition(c *device.Command, state device.CommandState, s float64) device.CommandEvent {
	return device.CommandEvent{Command: c.ID, Tenant: c.Tenant, Device: c.Device, State: state, At: after(s), Attempt: 1,
		Protocol: device.MQTT, Node: "n1", Epoch: device.Epoch{Generation: 3, Revision: 77}, Reason: "because"}
}

func (w *writer) record(tenant, dev, id string) device.CommandRecord {
	w.t.Helper()
	rec, err := w.st.Command(w.t.Context(), tenant, dev, id)
	w.must(err)
	return rec
}

func testCommandLife(t *testing.T, open Open) {
	w := newWriter(newRig(t, open))
	c := command("t", "d", "01A", 1)
	events := []device.CommandEvent{creation(c), transition(c, device.StateSent, 2), transition(c, device.StateQueued, 3),
		transition(c, device.StateSent, 4), transition(c, device.StateDelivered, 5), transition(c, device.StateFailed, 6)}
	events[4].Unconfirmed = true
	events[5].Status, events[5].Response, events[5].ContentType = 503, []byte{0, 1}, "text/plain"
	w.write(commands, events[0])
	for i := range events {
		if i > 0 {
			w.write(commandEvents, events[i])
		}
		w.both(func() {
			same(t, "record", w.record("t", "d", "01A"), device.CommandRecord{Command: *c, Events: events[:i+1]})
			same(t, "without a device", w.record("t", "", "01A"), device.CommandRecord{Command: *c, Events: events[:i+1]})
		})
	}
	for _, q := range [][3]string{{"t", "e", "01A"}, {"t2", "d", "01A"}, {"t", "d", "01B"}, {"", "", "01A"}} {
		_, err := w.st.Command(t.Context(), q[0], q[1], q[2])
		w.wantCode(err, device.NotFound)
	}
	// The stream begins anew; the command's newest event is of the new epoch.
	w.at[commandEvents] = device.Position{Epoch: 2}
	d := command("t", "d", "01B", 7)
	w.write(commandEvents, transition(d, device.StateSent, 8))
	w.write(commands, creation(d), creation(d)) // repeated: changes nothing
	w.write(commandEvents, transition(d, device.StateSucceeded, 9))
	w.both(func() {
		same(t, "record", w.record("t", "d", "01B"), device.CommandRecord{Command: *d,
			Events: []device.CommandEvent{creation(d), transition(d, device.StateSent, 8), transition(d, device.StateSucceeded, 9)}})
	})
}

func testEarlyTransitions(t *testing.T, open Open) {
	w := newWriter(newRig(t, open))
	c := command("t", "d", "01A", 1)
	w.write(commandEvents, transition(c, device.StateSent, 2), transition(c, device.StateDelivered, 3))
	w.both(func() {
		_, err := w.st.Command(t.Context(), "t", "d", "01A")
		w.wantCode(err, device.NotFound)
		page, err := w.st.Commands(t.Context(), storage.CommandQuery{Tenant: "t", Limit: 10})
		w.must(err)
		same(t, "commands without a request", len(page.Records), 0)
	})
	w.write(commands, creation(c))
	w.both(func() {
		want := device.CommandRecord{Command: *c, Events: []device.CommandEvent{creation(c), transition(c, device.StateSent, 2), transition(c, device.StateDelivered, 3)}}
		same(t, "record", w.record("t", "d", "01A"), want)
		for state, n := range map[device.CommandState]int{device.StateQueued: 0, device.StateDelivered: 1} {
			page, err := w.st.Commands(t.Context(), storage.CommandQuery{Tenant: "t", States: []device.CommandState{state}, Limit: 10})
			w.must(err)
			same(t, fmt.Sprintf("commands that are %v", state), len(page.Records), n)
		}
	})
}

func testCommandLists(t *testing.T, open Open) {
	w := newWriter(newRig(t, open))
	states := []device.CommandState{device.StateQueued, device.StateSent, device.StateSucceeded}
	var newest []*device.Command
	for i := range 30 {
		c := command([]string{"t", "t2"}[i%5/4], fmt.Sprintf("d%d", i%2), fmt.Sprintf("01%02d", i), float64(i/2))
		w.write(commands, creation(c))
		if state := states[i%3]; state != device.StateQueued {
			w.write(commandEvents, transition(c, state, float64(i)))
		}
		newest = append([]*device.Command{c}, newest...)
	}
	w.both(func() {
		for name, q := range map[string]storage.CommandQuery{
			"tenant":        {Tenant: "t"},
			"device":        {Tenant: "t", Device: "d1"},
			"state":         {Tenant: "t", States: states[1:2]},
			"states, other": {Tenant: "t2", Device: "d0", States: states[:2]},
			"nobody":        {Tenant: "t3"},
			"key":           {Tenant: "t", Device: "d1", Key: "k0111"},
		} {
			var want []string
			for i, c := range newest {
				state := states[(29-i)%3]
				if c.Tenant == q.Tenant && (q.Device == "" || q.Device == c.Device) && (q.Key == "" || q.Key == c.Key) && (len(q.States) == 0 || state == q.States[0] || state == q.States[len(q.States)-1]) {
					want = append(want, fmt.Sprint(c.ID, state))
				}
			}
			for _, limit := range []int{1, 4, 1000} {
				var got []string
				for q.Limit, q.Cursor = limit, ""; ; {
					page, err := w.st.Commands(t.Context(), q)
					w.must(err)
					if len(page.Records) > limit {
						t.Fatalf("a page of %d, wanted at most %d", len(page.Records), limit)
					}
					for _, rec := range page.Records {
						got = append(got, fmt.Sprint(rec.Command.ID, rec.Last().State))
					}
					if q.Cursor = page.Next; q.Cursor == "" {
						break
					}
				}
				same(t, fmt.Sprintf("by %s, pages of %d", name, limit), got, want)
			}
		}
	})
}

func testEvents(t *testing.T, open Open) {
	w := newWriter(newRig(t, open))
	a, b, x := command("t", "a", "01A", 1), command("t", "b", "01B", 2), command("t2", "a", "01C", 3)
	w.write(commands, creation(a), creation(x), creation(b))
	w.write(commandEvents, transition(a, device.StateSent, 4), transition(b, device.StateSent, 5), transition(x, device.StateSent, 6))
	w.at[commandEvents] = device.Position{Epoch: 2}
	w.write(commandEvents, transition(a, device.StateDelivered, 7))
	ask := func(q storage.EventQuery) (got []device.StoredEvent) {
		t.Helper()
		q.Tenant = "t"
		if q.Limit == 0 {
			q.Limit = 100
		}
		got, err := w.st.Events(t.Context(), q)
		w.must(err)
		return got
	}
	at := func(e device.CommandEvent, epoch, seq uint64) device.StoredEvent {
		return device.StoredEvent{CommandEvent: e, Position: device.Position{Epoch: epoch, Seq: seq}, StoredAt: e.At}
	}
	w.both(func() {
		same(t, "creations", ask(storage.EventQuery{Stream: commands}), []device.StoredEvent{at(creation(a), 1, 1), at(creation(b), 1, 3)})
		sent, delivered := at(transition(a, device.StateSent, 4), 1, 1), at(transition(a, device.StateDelivered, 7), 2, 1)
		other := at(transition(b, device.StateSent, 5), 1, 2)
		same(t, "transitions", ask(storage.EventQuery{Stream: commandEvents}), []device.StoredEvent{sent, other, delivered})
		same(t, "of a device", ask(storage.EventQuery{Stream: commandEvents, Device: "a"}), []device.StoredEvent{sent, delivered})
		same(t, "after", ask(storage.EventQuery{Stream: commandEvents, After: sent.Position}), []device.StoredEvent{other, delivered})
		same(t, "limit", ask(storage.EventQuery{Stream: commandEvents, Limit: 1}), []device.StoredEvent{sent})
		same(t, "after all", len(ask(storage.EventQuery{Stream: commandEvents, After: device.Position{Epoch: 2, Seq: 1}})), 0)
	})
}
