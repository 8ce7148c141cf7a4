package registry_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/tributary-iot/tributary/device"
)

func TestLabelsOfADevice(t *testing.T) {
	f, ctx, dev := newFixture(t), t.Context(), id(t, "dev1@acme")
	made, _, err := f.reg.Add(ctx, device.NewPrincipal{ID: dev, Labels: device.Labels{"site": "berlin", "roof": ""}})
	if err != nil || made.Labels.String() != "roof,site=berlin" {
		t.Fatalf("added %+v, %v", made, err)
	}
	got, err := f.reg.Label(ctx, dev, device.Labels{"site": "rome", "model": "t-1"}, []string{"roof", "nosuch"})
	if err != nil || got.Labels.String() != "model=t-1,site=rome" || !got.CreatedAt.Equal(made.CreatedAt) {
		t.Errorf("labelled %+v, %v", got, err)
	}
	again, err := f.reg.Label(ctx, dev, device.Labels{"site": "rome"}, []string{"roof"})
	if err != nil || !again.UpdatedAt.Equal(got.UpdatedAt) {
		t.Errorf("the same again is a change: %+v, %v", again, err)
	}
	_, err = f.reg.Label(ctx, dev, device.Labels{"a b": ""}, nil)
	wantCode(t, err, device.Invalid)
	_, _, err = f.reg.Add(ctx, device.NewPrincipal{ID: id(t, "dev2@acme"), Labels: device.Labels{"": "x"}})
	wantCode(t, err, device.Invalid)
	_, err = f.reg.Label(ctx, id(t, "nosuch@acme"), device.Labels{"a": ""}, nil)
	wantCode(t, err, device.NotFound)
	if now, err := f.reg.Get(ctx, dev); err != nil || now.Labels.String() != "model=t-1,site=rome" {
		t.Errorf("got %+v, %v", now, err)
	}
}

// TestLabelsAtOnceAllCount: two who label one device do not undo one another.
func TestLabelsAtOnceAllCount(t *testing.T) {
	f := newFixture(t)
	f.add(t, "dev1@default")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if _, err := f.reg.Label(t.Context(), id(t, "dev1@default"), device.Labels{fmt.Sprint("l", i): ""}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if now, err := f.reg.Get(t.Context(), id(t, "dev1@default")); err != nil || now.Labels.String() != "l0,l1,l2,l3" {
		t.Errorf("got %+v, %v", now, err)
	}
}
