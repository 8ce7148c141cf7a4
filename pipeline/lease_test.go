package pipeline

import (
	"testing"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/pipeline/embedded"
)

// TestLeases: epochs rise over sessions and over restarts of the server; a
// late release leaves the newer lease.
func TestLeases(t *testing.T) {
	dir := t.TempDir()
	var last device.Epoch
	for generation := uint64(1); generation <= 3; generation++ {
		server, err := embedded.Start(embedded.Options{Dir: dir})
		must(t, err)
		belt, err := Open(t.Context(), Options{Server: server})
		must(t, err)
		leases, err := belt.Leases(t.Context())
		must(t, err)
		for revision := uint64(1); revision <= 3; revision++ {
			e, err := leases.Take(t.Context(), device.Session{Device: dev(0), Protocol: device.AMQP}, "n")
			must(t, err)
			if want := (device.Epoch{Generation: generation, Revision: revision}); e != want || !last.Before(e) {
				t.Fatalf("epoch %+v after %+v, want %+v", e, last, want)
			}
			must(t, leases.Release(t.Context(), dev(0), last))
			last = e
		}
		must(t, leases.Release(t.Context(), dev(0), last))
		must(t, leases.Release(t.Context(), dev(1), last))
		must(t, belt.Close(t.Context()))
		must(t, server.Shutdown(t.Context()))
	}
}
