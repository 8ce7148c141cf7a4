package pipeline_test

import (
	"context"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/pipeline/embedded"
	"github.com/tributary-iot/tributary/registry/registrytest"
)

func TestRegistryKeepsItsContract(t *testing.T) {
	registrytest.Test(t, func(t *testing.T) registrytest.Store {
		s, err := embedded.Start(embedded.Options{Dir: t.TempDir(), Durability: embedded.Relaxed, MaxStore: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		b, err := pipeline.Open(t.Context(), pipeline.Options{Server: s, Durability: pipeline.Relaxed})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if err := b.Close(ctx); err != nil {
				t.Error(err)
			}
			if err := s.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
		r, err := b.Registry(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return r
	})
}
