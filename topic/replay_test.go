package topic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/topic/topictest"
)

// asked is a log that does something before it says which retained message is the last.
type asked struct {
	*topictest.Log
	before func() error
	each   func(*device.Publication) // before a retained message is replayed; nil: nothing
}

func (l *asked) LastRetained(ctx context.Context, tenant, filter string) (uint64, error) {
	if err := l.before(); err != nil {
		return 0, err
	}
	return l.Log.LastRetained(ctx, tenant, filter)
}

func (l *asked) Retained(ctx context.Context, tenant, filter string, last uint64, each func(device.Ref, *device.Publication) bool) error {
	return l.Log.Retained(ctx, tenant, filter, last, func(ref device.Ref, p *device.Publication) bool {
		if l.each != nil {
			l.each(p)
		}
		return each(ref, p)
	})
}

// retained is a message that was made a retained one, and is yet to be published.
func retained(t testing.TB, s *Service, topic string, qos int, payload string) *device.Publication {
	t.Helper()
	p := text(topic, qos, payload)
	p.Retain = true
	retain(t, s, p)
	return p
}

// TestRetainedOneWay: a message that is retained before somebody subscribes and published
// after that comes by replay, one that is retained later comes as it is published,
// whichever is on its way when; one that was replaced does not come after the newer one.
func TestRetainedOneWay(t *testing.T) {
	for qos := range 2 {
		log := &asked{Log: &topictest.Log{}, before: func() error { return nil }}
		s := serveOn(t, Config{}, log)
		r := join(t, s, "r")
		r.Request(100)
		before := retained(t, s, "before", qos, "before")
		var during *device.Publication
		log.before = func() error { // it is subscribed, and does not know yet what is retained
			during = retained(t, s, "during", qos, "during")
			publishOnly(t, s, during)
			publishOnly(t, s, text("plain", qos, "plain"))
			return nil
		}
		replay, err := r.Subscribe(t.Context(), device.Subscription{Filter: "#", QoS: 1})
		if err != nil {
			t.Fatal(err)
		}
		publishOnly(t, s, before)
		publishOnly(t, s, retained(t, s, "after", qos, "after"))
		publishOnly(t, s, retained(t, s, "replaced", qos, "old"))
		r.wait(t, 3)
		replay()
		publishOnly(t, s, text("end", qos, "end"))
		got := r.wait(t, 6)
		if want := []string{"plain", "after", "old", "before", "during", "end"}; !slices.Equal(got, want) {
			t.Errorf("with QoS %d came %q", qos, got)
		}
		for _, d := range r.got {
			if d.Retained != (d.Topic == "before" || d.Topic == "during") {
				t.Errorf("%s came as retained: %v", d.Topic, d.Retained)
			}
		}
		// Who subscribes again goes on getting what is published, and what is retained
		// again, but not what is older than what came.
		late := retained(t, s, "late", qos, "late")
		log.before = func() error { publishOnly(t, s, late); r.wait(t, 7); return nil }
		replay, err = r.Subscribe(t.Context(), device.Subscription{Filter: "#", QoS: 1})
		if err != nil {
			t.Fatal(err)
		}
		replay()
		if got := r.wait(t, 12)[6:]; !slices.Equal(got, []string{"late", "before", "during", "after", "old", "late"}) {
			t.Errorf("with QoS %d came %q again", qos, got)
		}
	}
}

// TestReplacedWhileReplayed: a retained message that is replaced when its turn to be
// replayed comes does not come after the newer one.
func TestReplacedWhileReplayed(t *testing.T) {
	for qos := range 2 {
		log := &asked{Log: &topictest.Log{}, before: func() error { return nil }}
		s := serveOn(t, Config{}, log)
		r := join(t, s, "r")
		r.Request(100)
		retained(t, s, "a", qos, "old")
		retained(t, s, "b", qos, "b")
		log.each = func(p *device.Publication) {
			if p.Topic == "a" {
				publishOnly(t, s, retained(t, s, "a", qos, "new"))
				r.wait(t, 1)
			}
		}
		r.subscribe(t, "+", 1)
		if got := r.wait(t, 2); !slices.Equal(got, []string{"new", "b"}) {
			t.Errorf("with QoS %d came %q", qos, got)
		}
	}
}

// TestRetainedUnknown: a subscription whose retained messages cannot be looked for is
// none, or the one it was to replace goes on; a replay ends with its subscription.
func TestRetainedUnknown(t *testing.T) {
	log := &asked{Log: &topictest.Log{}, before: func() error { return errors.New("down") }}
	s := serveOn(t, Config{}, log)
	r := join(t, s, "r")
	r.Request(100)
	if _, err := r.Subscribe(t.Context(), device.Subscription{Filter: "a/#", QoS: 1}); err == nil {
		t.Error("subscribed")
	}
	publishOnly(t, s, text("a/b", 0, "nobody's"))
	log.before = func() error { return nil }
	r.subscribe(t, "a/#", 1)
	log.before = func() error { return errors.New("down") }
	if _, err := r.Subscribe(t.Context(), device.Subscription{Filter: "a/#"}); err == nil {
		t.Error("subscribed again")
	}
	publishOnly(t, s, text("a/b", 1, "still"))
	if got := r.wait(t, 1); got[0] != "still" || r.got[0].Granted != 1 {
		t.Errorf("got %q with QoS %d", got, r.got[0].Granted)
	}
	log.before = func() error { return nil }
	retained(t, s, "a/c", 1, "kept")
	replay, err := r.Subscribe(t.Context(), device.Subscription{Filter: "a/#", QoS: 1})
	if err != nil || !r.Unsubscribe("a/#") || r.Unsubscribe("a/#") {
		t.Fatal(err)
	}
	replay()
	if n := len(r.wait(t, 1)); n != 1 {
		t.Errorf("%d came", n)
	}
}

// TestNewerIsBounded: what is remembered for a replay has a limit, and goes with it.
func TestNewerIsBounded(t *testing.T) {
	var r replay
	r.begin(true)
	r.found(7)
	for i := range 3 * maxNewer / 2 {
		if r.brings(&device.Publication{Topic: fmt.Sprint(i), Kept: 8}) {
			t.Fatal("what was retained later comes by replay")
		}
	}
	if len(r.newer) != maxNewer/2 || !r.replaced(fmt.Sprint(3*maxNewer/2-1), 7) || r.replaced("0", 7) {
		t.Errorf("%d are remembered", len(r.newer))
	}
	if r.over(); r.newer != nil {
		t.Error("they are remembered for good")
	}
}
