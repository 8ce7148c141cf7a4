package mqtt_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
)

// TestIdleConnectionsNeedNoGoroutine: those that say nothing are parked, each
// hears and is heard afterwards, and closing the door ends them.
func TestIdleConnectionsNeedNoGoroutine(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := serve(t, mqtt.Config{Registerer: reg}, &adaptertest.Gate{})
	parked := func() float64 { return gathered(t, reg, "tributary_mqtt_parked_connections") }
	before := runtime.NumGoroutine()
	const n = 200
	var all []*wire
	for i := range n {
		all = append(all, join(t, s, packet.V5, fmt.Sprintf("dev%d", i)))
	}
	poll(t, "all are parked", func() bool { return parked() == n })
	poll(t, "their goroutines are gone", func() bool { return runtime.NumGoroutine() < before+n/4 })
	for _, p := range all {
		p.send(packet.Pingreq{})
		want[packet.Pingresp](p)
		p.send(publish(7, "telemetry", "1"))
		p.wantAck(7, packet.Success)
	}
	poll(t, "all are parked again", func() bool { return parked() == n })
	for _, p := range all[:n/2] {
		p.conn.Close()
	}
	poll(t, "those that left are gone", func() bool { return gathered(t, reg, "tributary_mqtt_connections") == n/2 })
}

// TestParkedAtOnce: nobody waits for a look to be parked who connected, subscribed
// or sent a ping, and whoever published is waited for.
func TestParkedAtOnce(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		reg := prometheus.NewRegistry()
		s := serve(t, mqtt.Config{Registerer: reg, ParkAfter: time.Hour}, &adaptertest.Gate{})
		parked := func() bool { return gathered(t, reg, "tributary_mqtt_parked_connections") == 1 }
		p := join(t, s, v, "dev1")
		poll(t, "it is parked after CONNECT", parked)
		p.subscribe("dev1/commands/#", 1)
		poll(t, "it is parked after SUBSCRIBE", parked)
		p.send(packet.Pingreq{})
		want[packet.Pingresp](p)
		poll(t, "it is parked after PINGREQ", parked)
		p.send(publish(7, "telemetry", "1"))
		p.wantAck(7, packet.Success)
		if parked() {
			t.Error("it is parked in the midst of publishing")
		}
	})
}

// TestNotParkedInsideAPacket: half a packet is waited for as before, and its
// other half makes it whole.
func TestNotParkedInsideAPacket(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		reg := prometheus.NewRegistry()
		s := serve(t, mqtt.Config{Registerer: reg}, &adaptertest.Gate{})
		parked := func() float64 { return gathered(t, reg, "tributary_mqtt_parked_connections") }
		half, other := join(t, s, v, "dev1"), join(t, s, v, "dev2")
		poll(t, "both are parked", func() bool { return parked() == 2 })
		half.raw(0xc0) // PINGREQ lacks its length
		poll(t, "its goroutine waits for the rest", func() bool { return parked() == 1 })
		for range 3 { // looks go on meanwhile
			other.send(packet.Pingreq{})
			want[packet.Pingresp](other)
			poll(t, "the other is parked again", func() bool { return parked() == 1 })
		}
		half.raw(0)
		want[packet.Pingresp](half)
	})
}
