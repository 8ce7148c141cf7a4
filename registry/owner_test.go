package registry_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/registry"
	"github.com/tributary-iot/tributary/registry/registrytest"
)

// turns is a store on which one caller at a time makes one call at a time, in an
// order the test chooses. Who calls is told by the context.
type turns struct {
	*registrytest.Memory
	waits chan chan struct{} // of a caller that has come to its next call
}

type takesTurns struct{}

func (s *turns) wait(ctx context.Context) {
	if ctx.Value(takesTurns{}) != nil {
		turn := make(chan struct{})
		s.waits <- turn
		<-turn
	}
}

func (s *turns) Get(ctx context.Context, id device.ID) ([]byte, uint64, error) {
	s.wait(ctx)
	return s.Memory.Get(ctx, id)
}

func (s *turns) Create(ctx context.Context, id device.ID, value []byte) (uint64, error) {
	s.wait(ctx)
	return s.Memory.Create(ctx, id, value)
}

func (s *turns) Update(ctx context.Context, id device.ID, value []byte, revision uint64) (uint64, error) {
	s.wait(ctx)
	return s.Memory.Update(ctx, id, value, revision)
}

func (s *turns) Delete(ctx context.Context, id device.ID, revision uint64) error {
	s.wait(ctx)
	return s.Memory.Delete(ctx, id, revision)
}

// play runs the callers, each step by the one that pick chooses among those that
// wait, in the order of callers.
func (s *turns) play(t *testing.T, callers []func(context.Context) error, pick func(waiting int) int) []error {
	t.Helper()
	ctx := context.WithValue(t.Context(), takesTurns{}, true)
	errs, ended, next := make([]error, len(callers)), make([]chan struct{}, len(callers)), make([]chan struct{}, len(callers))
	step := func(i int) { // until caller i waits again, or has ended
		select {
		case next[i] = <-s.waits:
		case <-ended[i]:
			next[i] = nil
		}
	}
	for i, call := range callers {
		ended[i] = make(chan struct{})
		go func() { defer close(ended[i]); errs[i] = call(ctx) }()
		step(i)
	}
	for {
		var waiting []int
		for i := range next {
			if next[i] != nil {
				waiting = append(waiting, i)
			}
		}
		if len(waiting) == 0 {
			return errs
		}
		i := waiting[pick(len(waiting))]
		close(next[i])
		step(i)
	}
}

// everyOrder calls try with a pick for every order there is.
func everyOrder(try func(pick func(waiting int) int)) (orders int) {
	var chosen, of []int
	for {
		at := 0
		try(func(waiting int) int {
			if at == len(chosen) {
				chosen, of = append(chosen, 0), append(of, waiting)
			}
			at++
			return chosen[at-1]
		})
		orders++
		for len(chosen) > 0 && chosen[len(chosen)-1] == of[len(of)-1]-1 {
			chosen, of = chosen[:len(chosen)-1], of[:len(of)-1]
		}
		if len(chosen) == 0 {
			return orders
		}
		chosen[len(chosen)-1]++
	}
}

// keyGiven is one key, and what callers do with it.
type keyGiven struct {
	reg *registry.Registry
	key device.KeyHash
	n   uint64
}

func (g *keyGiven) name(who string) device.ID {
	return device.ID{Tenant: "t", Device: fmt.Sprintf("%s-%d", who, g.n)}
}

func (g *keyGiven) add(who string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, _, err := g.reg.Add(ctx, device.NewPrincipal{ID: g.name(who), Key: g.key})
		return err
	}
}

func (g *keyGiven) give(who string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, _, err := g.reg.AddCredential(ctx, g.name(who), g.key)
		return err
	}
}

func (g *keyGiven) remove(who string) func(context.Context) error {
	return func(ctx context.Context) error { return g.reg.Remove(ctx, g.name(who)) }
}

// TestAKeyHasOneOwnerInEveryOrder takes two, and samples of three, through every
// order of their reads and writes: at most one is told yes, and that one is let
// in; when nobody was, the key can still be given.
func TestAKeyHasOneOwnerInEveryOrder(t *testing.T) {
	store := &turns{Memory: new(registrytest.Memory), waits: make(chan chan struct{})}
	reg, err := registry.New(registry.Config{Store: store, Pepper: make([]byte, registry.PepperBytes), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	g := &keyGiven{reg: reg}
	try := func(what string, before, then []func(context.Context) error, names []string, pick func(int) int) {
		t.Helper()
		for _, call := range before {
			if err := call(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		errs, owners := store.play(t, then, pick), 0
		for i, err := range errs {
			if err != nil && device.CodeOf(err) != device.Conflict {
				t.Fatalf("%s: %v", what, err)
			}
			if err != nil || names[i] == "" {
				continue
			}
			owners++
			if p, err := reg.Authenticate(t.Context(), device.Credential{CertificateKey: g.key}); err != nil || p.ID != g.name(names[i]) {
				t.Fatalf("%s: %s was told yes, and the key lets in %+v (%v)", what, names[i], p, err)
			}
		}
		if owners > 1 {
			t.Fatalf("%s: %d owners of one key: %v", what, owners, errs)
		}
		if owners == 0 {
			if err := g.add("last")(t.Context()); err != nil {
				t.Fatalf("%s: nobody has the key, and nobody can get it: %v", what, err)
			}
		}
	}
	for _, c := range keyCases(g) {
		once := func(pick func(int) int) {
			g.n++
			binary.BigEndian.PutUint64(g.key[:], g.n)
			try(c.what, c.before, c.then, c.names, pick)
		}
		if len(c.then) == 2 {
			t.Logf("%s: %d orders", c.what, everyOrder(once))
			continue
		}
		dice := rand.New(rand.NewPCG(1, 2))
		for range 500 {
			once(dice.IntN)
		}
	}
}

type keyCase struct {
	what         string
	before, then []func(context.Context) error
	names        []string // of who asks for the key in then
}

func keyCases(g *keyGiven) []keyCase {
	type calls = []func(context.Context) error
	secret := func(who string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, _, err := g.reg.Add(ctx, device.NewPrincipal{ID: g.name(who)})
			return err
		}
	}
	return []keyCase{
		{"two new ones", nil, calls{g.add("a"), g.add("b")}, []string{"a", "b"}},
		{"a new one and one that is there", calls{secret("b")}, calls{g.add("a"), g.give("b")}, []string{"a", "b"}},
		{"two that are there", calls{secret("a"), secret("b")}, calls{g.give("a"), g.give("b")}, []string{"a", "b"}},
		{"the owner goes as another comes", calls{g.add("a")}, calls{g.remove("a"), g.add("b")}, []string{"", "b"}},
		{"three new ones", nil, calls{g.add("a"), g.add("b"), g.add("c")}, []string{"a", "b", "c"}},
		{"the owner goes as two come", calls{g.add("a"), secret("c")}, calls{g.remove("a"), g.add("b"), g.give("c")}, []string{"", "b", "c"}},
	}
}
