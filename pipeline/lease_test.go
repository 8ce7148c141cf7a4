package pipeline

import (
	"testing"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/pipeline/embedded"
)

// TestLeases: epochs rise over sessions, over openings of the belt and over restarts of
// the server; a late release leaves the newer lease.
func TestLeases(t *testing.T) {
	dir := t.TempDir()
	var last device.Epoch
	for generation := uint64(1); generation <= 3; generation++ {
		server, err := embedded.Start(embedded.Options{Dir: dir})
		must(t, err)
		belt, err := Open(t.Context(), Options{Server: server})
		must(t, err)
		last = takeLeases(t, belt, last, device.Epoch{Generation: generation})
		last = takeLeases(t, belt, last, last)
		must(t, belt.Close(t.Context()))
		must(t, server.Shutdown(t.Context()))
	}
}

// TestLeasesOfNodes is TestLeases where there may be other nodes: all of them count in one.
func TestLeasesOfNodes(t *testing.T) {
	_, url := externalServer(t, true)
	var last device.Epoch
	for generation := uint64(1); generation <= 2; generation++ {
		a, b := openOn(t, Options{URL: url, NodeName: "a"}), openOn(t, Options{URL: url, NodeName: "b"})
		last = takeLeases(t, a, last, device.Epoch{Generation: generation, Revision: 0})
		last = takeLeases(t, b, last, last)
		last = takeLeases(t, a, last, last)
		must(t, a.js.DeleteStream(t.Context(), LeaseStream)) // as when the server was restarted
	}
}

// takeLeases takes some, the first of which follows an epoch, and gives back what
// is not the newest any more.
func takeLeases(t *testing.T, belt *Belt, last, after device.Epoch) device.Epoch {
	t.Helper()
	leases, err := belt.Leases(t.Context())
	must(t, err)
	for revision := after.Revision + 1; revision <= after.Revision+3; revision++ {
		e, err := leases.Take(t.Context(), device.Session{Device: dev(0), Protocol: device.AMQP}, "n")
		must(t, err)
		if want := (device.Epoch{Generation: after.Generation, Revision: revision}); e != want || !last.Before(e) {
			t.Fatalf("epoch %+v after %+v, want %+v", e, last, want)
		}
		must(t, leases.Release(t.Context(), dev(0), last))
		last = e
	}
	must(t, leases.Release(t.Context(), dev(1), last))
	return last
}
