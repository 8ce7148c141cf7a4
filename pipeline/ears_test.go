package pipeline

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/tributary-iot/tributary/device"
)

// casting runs a test within one process, and over NATS, where another node casts.
func casting(t *testing.T, test func(t *testing.T, hears, casts *Topics)) {
	t.Run("in this process", func(t *testing.T) {
		b := inside(t, t.TempDir(), Options{})
		test(t, b.Topics(), b.Topics())
	})
	t.Run("over NATS", func(t *testing.T) {
		_, url := externalServer(t, true)
		test(t, openOn(t, Options{URL: url, NodeName: "a"}).Topics(), openOn(t, Options{URL: url, NodeName: "b"}).Topics())
	})
}

// gathering is what several listeners heard.
type gathering struct {
	mu  sync.Mutex
	all []string
}

func (g *gathering) hear(p *device.Publication) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = append(g.all, string(p.Payload))
}

func (g *gathering) heard() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.all)
}

// TestCastReachesOneTenant: everybody who listens in it, from when that is answered until
// it is stopped, in the order of the publisher; and it is kept nowhere.
func TestCastReachesOneTenant(t *testing.T) {
	casting(t, func(t *testing.T, hears, casts *Topics) {
		var one, two gathering
		stop, err := hears.Hear(t.Context(), "default", one.hear)
		if err != nil {
			t.Fatal(err)
		}
		stopTwo, err := hears.Hear(t.Context(), "default", two.hear)
		if err != nil {
			t.Fatal(err)
		}
		defer stopTwo()
		other := publication1("a/b", "other")
		other.Tenant = "other"
		var want []string
		for i := range 100 {
			want = append(want, fmt.Sprint(i))
			for _, p := range []*device.Publication{other, publication1("a/b", want[i])} {
				if err := casts.Cast(p); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, g := range []*gathering{&one, &two} {
			eventually(t, "all of it is heard, and no more", func() bool { return slices.Equal(g.heard(), want) })
		}
		stop()
		if err := casts.Cast(publication1("a/b", "last")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the other hears the last", func() bool { return slices.Contains(two.heard(), "last") })
		if slices.Contains(one.heard(), "last") {
			t.Error("it is heard after the end")
		}
		if n := lastSeq(t, casts.b, TopicStream); n != 0 {
			t.Errorf("the stream holds %d", n)
		}
		if err := casts.Cast(&device.Publication{Tenant: "default", Topic: "#"}); err == nil {
			t.Error("a filter was published to")
		}
	})
}

// TestCastToGroups: of what is cast one listener of a group hears, whoever else comes and
// goes, while several publish.
func TestCastToGroups(t *testing.T) {
	casting(t, func(t *testing.T, hears, casts *Topics) {
		var group, alone gathering
		for range 3 {
			stop, err := hears.HearShared(t.Context(), groupG, group.hear)
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
		}
		stop, err := hears.Hear(t.Context(), groupG.Tenant, alone.hear)
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		const messages = 100
		var work sync.WaitGroup
		for n := range 4 {
			work.Go(func() {
				for i := range messages {
					for _, p := range []*device.Publication{publication1("b", "no"), publication1("a/b", strconv.Itoa(n*messages+i))} {
						if err := casts.Cast(p); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		work.Go(func() {
			for i := range messages {
				g := groupG
				g.Name = fmt.Sprint("another", i%3)
				stop, err := hears.HearShared(t.Context(), g, func(*device.Publication) {})
				if err != nil {
					t.Error(err)
					return
				}
				stop()
			}
		})
		work.Wait()
		eventually(t, "everything is heard", func() bool { return len(alone.heard()) == 8*messages && len(group.heard()) >= 4*messages })
		got := group.heard()
		slices.Sort(got)
		if n := len(slices.Compact(got)); len(group.heard()) != 4*messages || n != 4*messages || slices.Contains(got, "no") {
			t.Errorf("the group heard %d, %d of them different", len(group.heard()), n)
		}
	})
}
