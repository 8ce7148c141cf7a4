package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// freeAddress is an address nobody listens at now, and nobody is given by chance
// while the server that has it is down: below the ports systems choose from.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(20_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port was found")
	return ""
}

// TestExactlyOnceThroughKills: Python's paho and MQTT.js publish and receive with
// QoS 2 while the server is killed with messages in flight, and started again: each
// message is received once, on the tenant's own topics, and is in the store once,
// as telemetry.
func TestExactlyOnceThroughKills(t *testing.T) {
	for name, peer := range map[string]peerDevice{
		"paho":    {protocol: "mqtt", script: "exactly_once.py", command: python("paho.mqtt.client")},
		"MQTT.js": {protocol: "mqtt", script: "exactly_once.js", command: node("mqtt")},
	} {
		for _, topic := range []string{"own/numbers", "pub/telemetry/numbers"} {
			t.Run(name+" on "+topic, func(t *testing.T) {
				t.Parallel()
				throughKills(t, peer, topic, 2)
			})
		}
	}
}

// TestSharedThroughKills is the same for a group of subscribers: each message comes
// to one of them, once with QoS 2, at least once with QoS 1.
func TestSharedThroughKills(t *testing.T) {
	for qos := 1; qos <= 2; qos++ {
		for _, topic := range []string{"own/numbers", "pub/telemetry/numbers"} {
			t.Run(fmt.Sprintf("QoS %d on %s", qos, topic), func(t *testing.T) {
				t.Parallel()
				paho := peerDevice{protocol: "mqtt", script: "exactly_once.py", command: func(t *testing.T) *exec.Cmd {
					cmd := python("paho.mqtt.client")(t)
					cmd.Env = append(os.Environ(), fmt.Sprint("RECEIVE_QOS=", qos))
					return cmd
				}}
				throughKills(t, paho, "$share/g/"+topic, 4)
			})
		}
	}
}

// throughKills kills the server of a peer's clients again and again.
func throughKills(t *testing.T, peer peerDevice, topic string, clients float64) {
	data, addr := t.TempDir(), freeAddress(t)
	start := func() *server { return serve(t, data, "--open", "--mqtt", addr) }
	s := start()
	cmd := peer.start(t, s, topic)
	cmd.expect("ready")
	for range sized(t, "TRIBUTARY_QOS2_KILLS", 2) {
		eventually(t, "all clients are connected", func() bool { return s.metric("tributary_mqtt_connections") == clients })
		count := func() float64 {
			return s.metric("tributary_mqtt_topic_messages_in_total", `qos="2"`) + s.metric("tributary_mqtt_messages_in_total", `qos="2"`)
		}
		enough := float64(rand.IntN(80))
		eventually(t, "messages flow", func() bool { return count() > enough })
		s.kill()
		s = start()
	}
	cmd.stdin.Close()
	var line string
	select {
	case line = <-cmd.lines:
	case <-time.After(3 * patience):
	}
	t.Log(line)
	if err := cmd.cmd.Wait(); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if !strings.Contains(topic, "pub/telemetry") {
		return
	}
	sent, err := strconv.Atoi(strings.Fields(line)[1])
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	eventually(t, "all is in the store", func() bool { rows = s.query("pub"); return len(rows) >= sent })
	if len(rows) != sent {
		t.Errorf("%d rows for %d messages", len(rows), sent)
	}
}
