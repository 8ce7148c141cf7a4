package storagetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// dedupWindow is how long a key is remembered; stores under test must be opened
// with this, their default.
const dedupWindow = 7 * 24 * time.Hour

const day = 86400.0 // seconds

// withKey makes a message that says its payload twice: as bytes, and measured.
func withKey(dev, key, payload string, s float64) *device.Message {
	m := message(dev, "", s, value("v", device.String(payload)))
	m.Key, m.Payload = key, []byte(payload)
	return m
}

// payloads are what is stored of a device, and checks that all ways to ask agree.
func (r *rig) payloads(dev string) (out []string) {
	r.t.Helper()
	page, err := r.st.Messages(r.t.Context(), all(dev))
	r.must(err)
	for _, m := range page.Messages {
		out = append(out, string(m.Payload))
	}
	same(r.t, "points of "+dev, len(r.points(storage.PointQuery{Device: dev, Name: "v"})), len(out))
	return out
}

func testKeys(t *testing.T, open Open) {
	r := newRig(t, open)
	s := 0.0
	next := func(dev, key, payload string) *device.Message {
		s++
		return withKey(dev, key, payload, s)
	}
	r.put(next("d", "a", "1"), next("d", "b", "1"), next("d", "", "1"), next("d", "", "1"), next("d", "a", "1")) // twice in one batch
	want := []string{"1", "1", "1", "1"}
	r.both(func() {
		same(t, "after the first batch", r.payloads("d"), want)
		r.wantPosition(telemetry, r.pos)
		r.put(next("d", "a", "1"), next("d", "b", "1"))
		same(t, "after a repetition", r.payloads("d"), want)
		r.wantPosition(telemetry, r.pos) // what is not stored still moves it
	})
	// Another payload under the key, another device and another tenant are others.
	other := next("d", "a", "1")
	other.Tenant = "t2"
	r.put(next("d", "a", "2"), next("e", "a", "1"), other, next("d", "a", "2"))
	want = append(want, "2")
	r.both(func() {
		r.put(next("d", "a", "2"), next("d", "a", "1"), next("e", "a", "1"))
		same(t, "of d", r.payloads("d"), want)
		same(t, "of e", r.payloads("e"), []string{"1"})
	})
	page, err := r.st.Messages(t.Context(), storage.MessageQuery{Tenant: "t2", Device: "d", Limit: 10})
	r.must(err)
	same(t, "of another tenant", len(page.Messages), 1)
	// A key is the device's, not the stream's: a new epoch changes nothing.
	r.pos = device.Position{Epoch: 2}
	r.put(next("d", "a", "1"), next("d", "c", "3"))
	want = append(want, "3")
	r.pos = device.Position{Epoch: 3}
	r.both(func() {
		r.put(next("d", "c", "3"), next("d", "b", "1"))
		same(t, "in new epochs", r.payloads("d"), want)
	})
	// Names that run together when put side by side are different names.
	r.put(next("x", "yz", "1"), next("xy", "z", "1"))
	r.both(func() { same(t, "names", append(r.payloads("x"), r.payloads("xy")...), []string{"1", "1"}) })
	// Many at once, and all of them again.
	var many []*device.Message
	for i := range 500 {
		many = append(many, next("many", fmt.Sprint("key ", i), fmt.Sprint(i)))
	}
	r.put(many[:250]...)
	r.seal()
	r.put(many...)
	r.both(func() {
		r.put(many...)
		same(t, "many", len(r.payloads("many")), 500)
	})
}

func testKeyWindow(t *testing.T, open Open) {
	r := newRig(t, open)
	var want []string
	put := func(s float64, payload string, kept bool) {
		t.Helper()
		r.put(withKey("d", "key", payload, s))
		if kept {
			want = append(want, payload)
		}
		same(t, fmt.Sprintf("stored after %v days", s/day), r.payloads("d"), want)
	}
	// Each day one, and one that was sent before: partitions and whatever else
	// is cut by time are crossed again and again.
	for d := range 7 {
		put(float64(d)*day, fmt.Sprint("day ", d), true)
		r.put(message("filler", "", float64(d)*day, value("v", device.Int(1))))
		if d%2 == 0 {
			r.seal()
		}
		for earlier := range d {
			put(float64(d)*day+1, fmt.Sprint("day ", earlier), false)
		}
	}
	r.both(func() { same(t, "after a week", r.payloads("d"), want) })
	put(7*day-0.000001, "day 0", false)
	put(7*day, "day 0", true) // exactly a window later it is a new message
	r.seal()
	put(8*day, "day 1", true)
	put(8*day+1, "day 0", false)
	put(13*day-1, "day 6", false)
	put(13*day, "day 6", true)
	r.both(func() {
		r.put(withKey("d", "key", "day 0", 14*day-1), withKey("d", "key", "day 6", 19*day))
		same(t, "a second window", r.payloads("d"), want)
	})
	slices.Sort(want)
	same(t, "how many", len(slices.Compact(want)), 7)
}
