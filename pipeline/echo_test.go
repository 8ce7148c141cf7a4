package pipeline

import (
	"fmt"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/tributary-iot/tributary/device"
)

// TestCastIsHeardFromEveryServer: what is cast by a node on any server of a cluster, from
// when Hear returns, is heard; a node that does not answer, because it has died and nobody
// knows yet, keeps nobody from listening.
func TestCastIsHeardFromEveryServer(t *testing.T) {
	t.Parallel()
	var nodes []*Belt
	for i, s := range clusterOf(t, 3, func(int, *natsserver.Options) {}) {
		b := openOn(t, Options{URL: s.ClientURL(), NodeName: fmt.Sprint(i)})
		n, err := b.Join(t.Context(), NodeOptions{Identity: fmt.Sprint(i), Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Leave(t.Context()) })
		nodes = append(nodes, b)
	}
	eventually(t, "all know each other", func() bool {
		for _, b := range nodes {
			if len(b.node.Nodes()) < len(nodes) {
				return false
			}
		}
		return true
	})
	// One in a hundred was missed.
	for i := range 200 {
		hearsAll(t, nodes, nodes[i%3], fmt.Sprint("tenant", i))
	}
	nodes[2].nc.Close()
	hearsAll(t, nodes[:2], nodes[0], "left")
}

// hearsAll has one node begin to listen for a tenant, and all cast something at once.
func hearsAll(t *testing.T, nodes []*Belt, at *Belt, tenant string) {
	t.Helper()
	heard := make(chan string, len(nodes))
	stop, err := at.Topics().Hear(t.Context(), tenant, func(p *device.Publication) { heard <- string(p.Payload) })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for i, b := range nodes {
		p := publication1("a", fmt.Sprint(i))
		p.Tenant = tenant
		if err := b.Topics().Cast(p); err != nil {
			t.Fatal(err)
		}
	}
	late := time.After(20 * time.Second)
	for n := range nodes {
		select {
		case <-heard:
		case <-late:
			t.Fatalf("%s: of %d messages %d were heard", tenant, len(nodes), n)
		}
	}
}
