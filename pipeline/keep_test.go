package pipeline

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// TestWhatIsNotWorthKeepingPasses: what is not kept is in the stream for its
// readers, and moves the store's position like all else; what is kept for now
// only goes to the store with that word.
func TestWhatIsNotWorthKeepingPasses(t *testing.T) {
	b, s := inside(t, t.TempDir(), Options{Durability: Relaxed}), newMemStore(t)
	last := map[string]bool{} // under the store's lock
	s.hook(func(batch *storage.Batch) error {
		for _, m := range batch.Messages {
			last[m.Message.Device] = m.Last
		}
		return nil
	}, nil)
	o := quick
	for _, text := range []string{"default/quiet/*=none", "default/thermostat/room=last"} {
		rule, err := device.ParseKeepRule(text)
		if err != nil {
			t.Fatal(err)
		}
		o.Keep = append(o.Keep, rule)
	}
	p := persist(t, b, s, o)
	for range 3 {
		for _, name := range []string{"machine", "quiet", "thermostat"} {
			submitAll(t, b, name, 20)
		}
	}
	submitAll(t, b, "quiet", 20) // at the end of the stream, too
	waitStored(t, p)
	if got := p.Stored(TelemetryStream); got != 200 {
		t.Errorf("the store is at %d of 200", got)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	devices := map[string]int{}
	for _, m := range s.messages {
		devices[m.Device]++
	}
	if fmt.Sprint(devices) != "map[machine:60 thermostat:60]" || fmt.Sprint(last) != "map[machine:false thermostat:true]" {
		t.Errorf("stored are %v, of which only the last: %v", devices, last)
	}
	seen := collect(t, b, FeedQuery{Tenant: "default", Device: "quiet"}, &device.Position{}, 80)
	if i := slices.IndexFunc(seen, func(m device.Stored) bool { return m.Device != "quiet" }); i >= 0 {
		t.Errorf("a reader of the stream saw %+v", seen[i])
	}
}
