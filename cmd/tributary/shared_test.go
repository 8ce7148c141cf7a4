package main

import (
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/eclipse/paho.golang/packets"
)

// sharer is a member of a group, which acknowledges or holds what it gets.
type sharer struct {
	*mqtt5Conn
	mu  sync.Mutex
	got map[string]int
}

func (w *sharer) work(acks bool) {
	for p := range w.in {
		m, ok := p.Content.(*packets.Publish)
		if !ok {
			continue
		}
		w.mu.Lock()
		w.got[m.Topic+" "+string(m.Payload)]++
		w.mu.Unlock()
		if acks {
			if _, err := (&packets.Puback{PacketID: m.PacketID}).WriteTo(w); err != nil {
				return
			}
		}
	}
}

func (w *sharer) all() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.got)
}

// TestSharedAcrossNodes: a group with members on two nodes gets each message once,
// telemetry of every protocol too. What a member held when it was lost, and then
// what one held when its node was killed, goes to another, and nothing else does.
func TestSharedAcrossNodes(t *testing.T) {
	t.Parallel()
	c := openCluster(t)
	hire := func(s *server, name string, acks bool) *sharer {
		w := &sharer{mqtt5Conn: dialMQTT5(t, s, name), got: map[string]int{}}
		w.subscribe(t, "$share/g/#")
		go w.work(acks)
		return w
	}
	first, second, holder := hire(c.a, "first", true), hire(c.b, "second", true), hire(c.b, "holder", false)
	workers := []*sharer{first, second}
	want, sent := map[string]bool{}, 0
	publish := func(n int) {
		t.Helper()
		conn := dialMQTT5(t, c.b, fmt.Sprint("publisher", sent))
		defer conn.Close()
		for range n {
			sent++
			if _, err := (&packets.Publish{Topic: "work", QoS: 1, PacketID: 1, Payload: fmt.Append(nil, sent)}).WriteTo(conn); err != nil {
				t.Fatal(err)
			}
			if conn.await(t, func(p *packets.ControlPacket) bool { return p.Type == packets.PUBACK }) == nil {
				t.Fatal("the connection ended")
			}
			want[fmt.Sprint("work ", sent)] = true
		}
	}
	publish(60)
	for _, name := range oneEach(t, c.b, "21") {
		want[name+"/telemetry/room 21"] = true
	}
	counts := func(who []*sharer) map[string]int {
		all := map[string]int{}
		for _, w := range who {
			for m, n := range w.all() {
				all[m] += n
			}
		}
		return all
	}
	eventually(t, "every message comes to somebody", func() bool { return len(counts(append(workers, holder))) == len(want) })
	for m, n := range counts(append(workers, holder)) {
		if n != 1 || !want[m] {
			t.Errorf("%q came %d times", m, n)
		}
	}
	for i, w := range append(workers, holder) {
		if len(w.all()) == 0 {
			t.Errorf("sharer %d got nothing", i)
		}
	}
	holder.Close()
	eventually(t, "what the lost member held comes to another", func() bool { return len(counts(workers)) == len(want) })
	holder = hire(c.a, "holder on a", false)
	publish(40)
	eventually(t, "every message comes to somebody", func() bool { return len(counts(append(workers, holder))) == len(want) })
	held := holder.all()
	if len(held) == 0 {
		t.Error("the second holder got nothing")
	}
	c.killA()
	// The NATS server waits for the dead node's acknowledgements for half a minute.
	eventually(t, "what was held on the dead node comes to another", func() bool { return len(counts(workers)) == len(want) })
	for m, n := range counts(workers) {
		if n != 1 && first.all()[m] == 0 { // an acknowledgement to the node may have died with it
			t.Errorf("%q came %d times", m, n)
		}
	}
}
