package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"

	"github.com/tributary-iot/tributary/internal/peer"
)

// TestTutorialPair: a device and a server as the tutorials have them, both in
// Python's paho and neither of them knowing where they are: the telemetry is in
// the store, and the command has a record with its states.
func TestTutorialPair(t *testing.T) {
	peer.Python(t, "paho.mqtt.client")
	for _, mode := range []string{"open", "credentials"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			var s *server
			var ofDevice, ofServer []string
			if mode == "open" {
				s = serve(t, t.TempDir(), "--open")
			} else {
				s = serve(t, t.TempDir())
				ofDevice = []string{"lamp", s.addDevice("lamp")}
				ofServer = []string{"lights", s.addDevice("lights", "--kind", "application")}
			}
			program := func(script string) peerDevice {
				return peerDevice{protocol: "mqtt", script: script, command: python("paho.mqtt.client")}
			}
			app := program("tutorial_server.py").start(t, s, "lamp", ofServer...)
			device := program("tutorial_device.py").start(t, s, "lamp", ofDevice...)
			app.expect("telemetry 17")
			app.expect("told")
			device.expect(`command {"led_on": true}`)
			device.succeeded()
			eventually(t, "the telemetry is in the store", func() bool { return len(s.query("lamp")) > 0 })
			eventually(t, "the command's record", func() bool {
				list := s.client("commands", "list", "-o", "json")
				return strings.Contains(list, `"device":"lamp"`) && strings.Contains(list, "DELIVERED")
			})
		})
	}
}

// oneEach has a device of each protocol send a reading and leave, and answers their names.
func oneEach(t *testing.T, s *server, reading string) (names []string) {
	t.Helper()
	for i, send := range []sender{sendMQTT, sendAMQP, sendHTTP} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		names = append(names, fmt.Sprint("dev", i))
		give, leave, err := send(ctx, s, names[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := give([]byte(reading)); err != nil {
			t.Fatal(err)
		}
		leave()
	}
	return names
}

// TestTopicsAcrossNodes: what is published on one node, with or without an
// acknowledgement, and what devices of any protocol send there, is received
// on another.
func TestTopicsAcrossNodes(t *testing.T) {
	t.Parallel()
	c := openCluster(t)
	board := dialMQTT5(t, c.a, "board")
	board.subscribe(t, "#")
	peer := dialMQTT5(t, c.b, "peer")
	for qos := range byte(2) {
		p := &packets.Publish{Topic: "home/door", QoS: qos, PacketID: 5, Payload: fmt.Appendf(nil, "with %d", qos)}
		if qos == 0 {
			p.PacketID = 0
		}
		if _, err := p.WriteTo(peer); err != nil {
			t.Fatal(err)
		}
	}
	oneEach(t, c.b, "21")
	var got []string
	for len(got) < 5 {
		p := board.await(t, func(p *packets.ControlPacket) bool { return p.Type == packets.PUBLISH })
		if p == nil {
			t.Fatal("the connection ended")
		}
		m := p.Content.(*packets.Publish)
		got = append(got, m.Topic+" "+string(m.Payload))
		if m.QoS > 0 {
			board.ack(t, m.PacketID)
		}
	}
	slices.Sort(got)
	want := []string{"dev0/telemetry/room 21", "dev1/telemetry/room 21", "dev2/telemetry/room 21", "home/door with 0", "home/door with 1"}
	if !slices.Equal(got, want) {
		t.Errorf("received %q", got)
	}
}
