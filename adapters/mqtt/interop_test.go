package mqtt_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/peer"
)

// program starts a client somebody else wrote; it is killed with the test.
func program(t *testing.T, name string, args ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = writerTo{t}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

type writerTo struct{ t *testing.T }

func (w writerTo) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

func hostPort(t *testing.T, s *mqtt.Server) (host, port string) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr(s))
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

// run starts a program and wants it to end well.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd, out := program(t, name, args...)
	for out.Scan() {
		t.Log(out.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v", strings.Join(cmd.Args, " "), err)
	}
}

func TestMosquittoPub(t *testing.T) {
	pub := peer.Command(t, "mosquitto_pub")
	for _, version := range []string{"mqttv311", "mqttv5"} {
		gate := &adaptertest.Gate{RefuseAnonymous: true, Secrets: map[device.ID]string{id1: "s"}}
		host, port := hostPort(t, serve(t, mqtt.Config{}, gate))
		args := []string{"-h", host, "-p", port, "-V", version, "-u", "dev1", "-P", "s", "-t", "dev1/telemetry/room"}
		run(t, pub, append(args, "-q", "1", "-m", `{"temperature":21.5}`)...)
		run(t, pub, append(args, "-q", "0", "-m", "22")...)
		until(t, gate, "both messages are stored", func() bool { return len(gate.Stored()) == 2 })
		m := gate.Stored()[0]
		if m.Device != "dev1" || m.Channel != "room" || len(m.Measurements) != 1 || m.Measurements[0].Value != device.Double(21.5) {
			t.Errorf("%s: %+v", version, m)
		}
		refused, _ := program(t, pub, append(args, "-P", "wrong", "-q", "1", "-m", "x")...)
		if err := refused.Wait(); err == nil {
			t.Errorf("%s: a wrong secret was not noticed", version)
		}
	}
}

// TestMosquittoPubPipelined sends lines as fast as the client can.
func TestMosquittoPubPipelined(t *testing.T) {
	pub := peer.Command(t, "mosquitto_pub")
	gate := &adaptertest.Gate{}
	host, port := hostPort(t, serve(t, mqtt.Config{}, gate))
	cmd := exec.Command(pub, "-h", host, "-p", port, "-i", "dev1", "-q", "1", "-t", "telemetry", "-l")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	const n = 500
	for i := range n {
		_, _ = fmt.Fprintln(in, i)
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := len(gate.Stored()); got != n {
		t.Errorf("%d stored", got)
	}
}

func TestMosquittoSubGetsCommands(t *testing.T) {
	sub, pub := peer.Command(t, "mosquitto_sub"), peer.Command(t, "mosquitto_pub")
	for _, version := range []string{"mqttv311", "mqttv5"} {
		gate := &adaptertest.Gate{}
		host, port := hostPort(t, serve(t, mqtt.Config{}, gate))
		_, out := program(t, sub, "-h", host, "-p", port, "-V", version, "-q", "1", "-i", "dev1", "-t", "dev1/commands/#", "-F", "%t %p", "-C", "1")
		until(t, gate, "the device is attached", func() bool { return gate.Sessions(id1) == 1 })
		gate.Send(command("C1", "heat"))
		if !out.Scan() || out.Text() != `dev1/commands/C1/heat {"on":true}` {
			t.Fatalf("%s: got %q", version, out.Text())
		}
		if s := settled(t, gate, 1); s.Outcome.Kind != device.Accepted {
			t.Errorf("%s: %+v", version, s)
		}
		run(t, pub, "-h", host, "-p", port, "-V", version, "-q", "1", "-t", "dev1/responses/C1/200", "-m", "ok")
		if r := gate.Responses(); len(r) != 1 || r[0].Command != "C1" || r[0].Status != 200 {
			t.Errorf("%s: %+v", version, r)
		}
	}
}

const pythonDevice = `
import sys, paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties
from paho.mqtt.packettypes import PacketTypes
host, port, version = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
N = 300
acked = set()
c = mqtt.Client(client_id="dev1", protocol=version)
c.username_pw_set("dev1", "s")
def on_connect(client, userdata, flags, rc, props=None):
    client.subscribe("commands/#" if version == 4 else "commands", qos=1)
def on_subscribe(client, userdata, mid, granted, props=None):
    for i in range(N):
        client.publish("telemetry/n", str(i), qos=1)
def on_publish(client, userdata, mid):
    acked.add(mid)
    if len(acked) == N:
        print("all acked", flush=True)
    if len(acked) == N + 1:
        client.disconnect()
def on_message(client, userdata, m):
    if version == 4:
        client.publish("responses/%s/200" % m.topic.split("/")[1], "done", qos=1)
    else:
        p = Properties(PacketTypes.PUBLISH)
        p.CorrelationData = m.properties.CorrelationData
        p.UserProperty = ("status", "200")
        client.publish(m.properties.ResponseTopic, "done", qos=1, properties=p)
c.on_connect, c.on_subscribe, c.on_publish, c.on_message = on_connect, on_subscribe, on_publish, on_message
c.connect(host, port, 30)
c.loop_forever()
`

// TestPahoPython plays a device that sends, receives a command and answers.
func TestPahoPython(t *testing.T) {
	python := peer.Python(t, "paho.mqtt.client")
	for _, version := range []string{"4", "5"} {
		gate := &adaptertest.Gate{RefuseAnonymous: true, Secrets: map[device.ID]string{id1: "s"}}
		host, port := hostPort(t, serve(t, mqtt.Config{}, gate))
		cmd, out := program(t, python, "-c", pythonDevice, host, port, version)
		if !out.Scan() || out.Text() != "all acked" {
			t.Fatalf("version %s: got %q", version, out.Text())
		}
		for i, m := range gate.Stored() {
			if string(m.Payload) != fmt.Sprint(i) {
				t.Fatalf("version %s: message %d is %s", version, i, m.Payload)
			}
		}
		gate.Send(command("C1", "heat"))
		if s := settled(t, gate, 1); s.Outcome.Kind != device.Accepted {
			t.Errorf("version %s: %+v", version, s)
		}
		until(t, gate, "the answer is recorded", func() bool { return len(gate.Responses()) == 1 })
		if r := gate.Responses()[0]; r.Command != "C1" || r.Status != 200 || string(r.Payload) != "done" {
			t.Errorf("version %s: %+v", version, r)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("version %s: %v", version, err)
		}
	}
}

const nodeDevice = `
const mqtt = require('mqtt')
const [url, version] = process.argv.slice(1)
const c = mqtt.connect(url, {clientId: 'dev1', protocolVersion: +version, clean: true, reconnectPeriod: 0})
c.on('error', e => { console.error(e); process.exit(1) })
c.on('connect', () => c.subscribe('dev1/commands/#', {qos: 1}, (err, granted) => {
  if (err) { console.error(err); process.exit(1) }
  let left = 200
  for (let i = 0; i < 200; i++) c.publish('telemetry', String(i), {qos: 1}, e => {
    if (e) { console.error(e); process.exit(1) }
    if (--left === 0) console.log('all acked')
  })
}))
c.on('message', (topic) => c.publish('dev1/responses/' + topic.split('/')[2] + '/200', 'done', {qos: 1}, e => {
  if (e) { console.error(e); process.exit(1) }
  c.end()
}))
`

// TestMQTTjs plays the same device with a third codec.
func TestMQTTjs(t *testing.T) {
	node, env := peer.Node(t, "mqtt")
	for _, version := range []string{"4", "5"} {
		gate := &adaptertest.Gate{}
		s := serve(t, mqtt.Config{}, gate)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, node, "-e", nodeDevice, "mqtt://"+addr(s), version)
		cmd.Env, cmd.Stderr = env, writerTo{t}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() || lines.Text() != "all acked" {
			t.Fatalf("version %s: got %q", version, lines.Text())
		}
		gate.Send(command("C1", "heat"))
		until(t, gate, "the answer is recorded", func() bool { return len(gate.Responses()) == 1 })
		if r := gate.Responses()[0]; r.Command != "C1" || r.Status != 200 {
			t.Errorf("version %s: %+v", version, r)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("version %s: %v", version, err)
		}
		if n := len(gate.Stored()); n != 200 {
			t.Errorf("version %s: %d stored", version, n)
		}
	}
}
