package mqtt_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/internal/peer"
)

const pythonWorkers = `
import sys, threading, time, paho.mqtt.client as mqtt
host, port, version = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
got, lock = [], threading.Lock()
def connect(name, qos=None):
    ok = threading.Event()
    c = mqtt.Client(client_id=name, protocol=version)
    c.on_connect = lambda *a: ok.set() if qos is None else c.subscribe("$share/workers/t/#", qos)
    c.on_subscribe = lambda *a: ok.set()
    def on_message(cl, u, m):
        with lock: got.append((name, m.payload.decode()))
    c.on_message = on_message
    c.connect(host, port, 30)
    c.loop_start()
    assert ok.wait(20), "not connected, or not subscribed"
    return c
workers = [connect("w%d" % q, q) for q in range(3)]
pub = connect("pub")
for i in range(60): pub.publish("t/%d" % (i % 7), str(i), qos=i % 3).wait_for_publish()
end = time.time() + 20
while time.time() < end and len(got) < 60: time.sleep(0.02)
with lock:
    assert sorted(int(p) for _, p in got) == list(range(60)), got
    assert len(set(name for name, _ in got)) == 3, got
`

const nodeWorkers = `
const mqtt = require('mqtt')
const [url, version] = process.argv.slice(1)
const got = []
const connect = name => new Promise((ok, no) => {
  const c = mqtt.connect(url, {clientId: name, protocolVersion: +version, reconnectPeriod: 0})
  c.on('message', (t, p) => got.push([name, +p]))
  c.on('error', no)
  c.once('connect', () => ok(c))
})
;(async () => {
  for (const qos of [0, 1, 2]) await (await connect('w' + qos)).subscribeAsync('$share/workers/t/#', {qos})
  const pub = await connect('pub')
  for (let i = 0; i < 60; i++) await pub.publishAsync('t/' + i % 7, String(i), {qos: i % 3})
  for (let i = 0; i < 1000 && got.length < 60; i++) await new Promise(r => setTimeout(r, 20))
  if (got.map(x => x[1]).sort((a, b) => a - b).join() !== [...Array(60).keys()].join()) throw new Error(JSON.stringify(got))
  if (new Set(got.map(x => x[0])).size !== 3) throw new Error(JSON.stringify(got))
  process.exit(0)
})().catch(e => { console.error(e); process.exit(1) })
`

// TestSharedConversations: Python's paho and MQTT.js share 60 messages of every QoS
// among three subscribers, on both versions.
func TestSharedConversations(t *testing.T) {
	for _, version := range []string{"4", "5"} {
		for _, name := range []string{"python", "node"} {
			t.Run(name+" "+version, func(t *testing.T) {
				b := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
				host, port := hostPort(t, b.Server)
				args := map[string][]string{
					"python": {"-c", pythonWorkers, host, port, version},
					"node":   {"-e", nodeWorkers, "mqtt://" + addr(b.Server), version},
				}
				cmd := script(t, name, args[name]...)
				cmd.Stdout, cmd.Stderr = writerTo{t}, writerTo{t}
				if err := cmd.Run(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestSharedMosquitto: two mosquitto_sub of a group get each message once between
// them; what is sent while both sessions are away waits for the one that is back.
func TestSharedMosquitto(t *testing.T) {
	sub, pub := peer.Command(t, "mosquitto_sub"), peer.Command(t, "mosquitto_pub")
	for _, version := range []string{"mqttv311", "mqttv5"} {
		b := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
		host, port := hostPort(t, b.Server)
		at := []string{"-h", host, "-p", port, "-V", version}
		of := func(client string, more ...string) []string {
			args := append(slices.Clone(at), "-i", client, "-c", "-q", "1", "-t", "$share/g/t/#", "-F", "%p")
			if version == "mqttv5" {
				args = append(args, "-x", "3600")
			}
			return append(args, more...)
		}
		for _, client := range []string{"one", "two"} {
			run(t, sub, of(client, "-E")...)
			b.away(t, client)
		}
		for i := range 5 {
			run(t, pub, append(slices.Clone(at), "-q", "1", "-t", "t/x", "-m", fmt.Sprint(i))...)
		}
		_, out := program(t, sub, of("two", "-C", "5")...)
		var got []string
		for out.Scan() {
			got = append(got, out.Text())
		}
		if slices.Sort(got); !slices.Equal(got, []string{"0", "1", "2", "3", "4"}) {
			t.Errorf("%s: the one that was back received %q", version, got)
		}
		b.away(t, "two")
		lines := make(chan string, 100)
		for _, client := range []string{"one", "two"} {
			_, out := program(t, sub, of(client)...)
			go func() {
				for out.Scan() {
					lines <- out.Text()
				}
			}()
		}
		poll(t, "both are there", func() bool { return b.subscriptions() == 2 })
		for _, payload := range []string{"new 0", "new 1"} {
			run(t, pub, append(slices.Clone(at), "-q", "1", "-t", "t/x", "-m", payload)...)
		}
		// What mosquitto_sub had no time to acknowledge before it left comes again.
		for got = nil; len(got) < 2; {
			if line := <-lines; strings.HasPrefix(line, "new ") {
				got = append(got, line)
			}
		}
		if slices.Sort(got); !slices.Equal(got, []string{"new 0", "new 1"}) {
			t.Errorf("%s: the two received %q", version, got)
		}
	}
}
