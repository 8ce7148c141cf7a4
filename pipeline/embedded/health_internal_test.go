package embedded

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// TestABusyMachineIsNoFault: a server that says it was not ready within its
// millisecond is left alone. One that was not started says that every time.
func TestABusyMachineIsNoFault(t *testing.T) {
	ns, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	if h := ns.Healthz(&server.HealthzOptions{}); h.Error == "" {
		t.Fatal("a server that was not started is healthy: this test shows nothing")
	}
	if err := failing(ns); err != nil {
		t.Errorf("it would be restarted: %v", err)
	}
	if err := sick(ns); err != nil {
		t.Errorf("it would be restarted again: %v", err)
	}
}
