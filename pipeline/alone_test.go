package pipeline

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// TestAloneReadsWhatTheStreamNoLongerKeeps: a subscription without a name begins at
// any position or time, and one that is overtaken by the purge misses nothing.
func TestAloneReadsWhatTheStreamNoLongerKeeps(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Relaxed})
	s := newMemStore(t)
	p := persist(t, b, s, PersistOptions{})
	for i := range 9 {
		say(t, b, "default", "d", []string{"room", "hall"}[i%2], fmt.Sprint(i+1))
	}
	first := subscribeWith(t, b, s, adapters.Subscription{Tenant: "default", First: true}, 1)
	first.want(t, "1")
	waitStored(t, p)
	purgeBefore(t, b, 6)
	begun := first.all()[0]
	for want, q := range map[string]adapters.Subscription{
		"2 3 4 5 6 7 8 9":   {After: begun.Token},
		"1 2 3 4 5 6 7 8 9": {Since: begun.StoredAt.Add(-time.Hour)},
		"2 4 6 8":           {After: begun.Token, Channel: "hall"},
		"1 3 5 7 9":         {Since: begun.StoredAt, Device: "d", Channel: "room"},
		"6 7 8 9":           {First: true},
	} {
		q.Tenant = "default"
		subscribeWith(t, b, s, q, 100).want(t, want)
	}
	purgeBefore(t, b, 8)
	first.Request(100)
	first.want(t, "1 2 3 4 5 6 7 8 9")
	say(t, b, "default", "d", "", "10")
	first.want(t, "1 2 3 4 5 6 7 8 9 10")
	for _, m := range first.all() {
		if m.Gap != nil || m.Attempt != 1 {
			t.Errorf("%s tells of a gap %+v, attempt %d", m.Payload, m.Gap, m.Attempt)
		}
	}
	waitStored(t, p)
	purgeBefore(t, b, 11) // nothing is left in the stream
	subscribeWith(t, b, s, adapters.Subscription{Tenant: "default", Since: begun.StoredAt}, 100).want(t, "1 2 3 4 5 6 7 8 9 10")

	after := device.Position{Epoch: begun.Position.Epoch, Seq: 11}
	if _, err := b.Subscribe(t.Context(), s, adapters.Subscription{Tenant: "default", After: devicepb.EncodePosition(after)}, nil, nil); device.CodeOf(err) != device.Invalid {
		t.Errorf("a position after the end: %v", err)
	}
	s.mu.Lock()
	s.unread = errOutage
	s.mu.Unlock()
	if _, err := b.Subscribe(t.Context(), s, adapters.Subscription{Tenant: "default", Since: begun.StoredAt}, nil, nil); device.CodeOf(err) != device.Unavailable {
		t.Errorf("a time in a store that cannot be read: %v", err)
	}
	r := subscribeWith(t, b, s, adapters.Subscription{Tenant: "default", After: begun.Token}, 1)
	eventually(t, "the reader is told", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return device.CodeOf(r.lost) == device.Unavailable
	})
}

// TestAloneGivenBack: what is released comes again, before anything else; what is
// rejected does not.
func TestAloneGivenBack(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Relaxed})
	r := subscribe(t, b, adapters.Subscription{Tenant: "default"}, 3)
	for i := range 4 {
		say(t, b, "default", "d", "", fmt.Sprint(i+1))
	}
	r.want(t, "1 2 3")
	for i, kind := range []device.OutcomeKind{device.Rejected, device.Released, device.Accepted} {
		r.all()[i].Settle(kind)
	}
	r.Request(2)
	r.want(t, "1 2 3 2 4")
	if again := r.all()[3]; again.Attempt != 2 {
		t.Errorf("it came as attempt %d", again.Attempt)
	}
}

// TestAloneHoldsSoMuch: what a reader has and does not settle is bounded, however
// much it asks for, and so is what is read ahead for one that asks for nothing.
func TestAloneHoldsSoMuch(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Relaxed})
	r := subscribe(t, b, adapters.Subscription{Tenant: "default"}, 1000)
	const size = 1 << 20
	payload := strings.Repeat("x", size-aloneOverhead)
	for range aloneHeldBytes/size + 4 {
		say(t, b, "default", "d", "", payload)
	}
	eventually(t, "as many as may be held", func() bool { return len(r.all()) >= aloneHeldBytes/size })
	a := r.Feed.(*alone)
	if open, _ := a.next(); open || len(r.all()) > aloneHeldBytes/size {
		t.Errorf("%d messages of %d bytes are held, and more would come: %v", len(r.all()), size, open)
	}
	r.accept()
	eventually(t, "the rest", func() bool { return len(r.all()) == aloneHeldBytes/size+4 })
}
