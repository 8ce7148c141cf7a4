package registrytest_test

import (
	"testing"

	"github.com/tributary-iot/tributary/registry"
	"github.com/tributary-iot/tributary/registry/registrytest"
)

func TestMemory(t *testing.T) {
	registrytest.Test(t, func(*testing.T) registry.Store { return new(registrytest.Memory) })
}
