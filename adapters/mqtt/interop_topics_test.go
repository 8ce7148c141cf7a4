package mqtt_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	pahov3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/peer"
)

// inbox is what a client received.
type inbox struct {
	mu  sync.Mutex
	all []string
}

func (in *inbox) add(topic string, payload []byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.all = append(in.all, topic+" "+string(payload))
}

// await waits for as many as are wanted, and compares them in any order.
func (in *inbox) await(t *testing.T, wanted ...string) {
	t.Helper()
	var got []string
	poll(t, fmt.Sprint("received: ", wanted), func() bool {
		in.mu.Lock()
		defer in.mu.Unlock()
		got = slices.Clone(in.all)
		return len(got) >= len(wanted)
	})
	slices.Sort(got)
	slices.Sort(wanted)
	if !slices.Equal(got, wanted) {
		t.Errorf("received %q, want %q", got, wanted)
	}
	in.mu.Lock()
	in.all = nil
	in.mu.Unlock()
}

// away waits until a session without a connection is written down.
func (b *broker) away(t *testing.T, client string) {
	t.Helper()
	key := device.SessionKey{Principal: device.ID{Tenant: "default", Device: client}, Client: client}
	poll(t, client+" is away", func() bool { r := b.records.Get(key); return r != nil && r.Node == "" })
}

// finished waits until nothing that was sent to a session is unfinished, which it
// would get again.
func (b *broker) finished(t *testing.T, client string) {
	t.Helper()
	key := device.SessionKey{Principal: device.ID{Tenant: "default", Device: client}, Client: client}
	poll(t, client+" has finished", func() bool { r := b.records.Get(key); return r != nil && len(r.State.Outgoing) == 0 })
}

// TestPahoGo3: Eclipse's Go client for 3.1.1: every QoS, retained, a session that
// goes on, a will.
func TestPahoGo3(t *testing.T) {
	b := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
	var in inbox
	connect := func(name string, clean bool, change func(*pahov3.ClientOptions)) pahov3.Client {
		o := pahov3.NewClientOptions().AddBroker("tcp://" + addr(b.Server)).SetClientID(name).SetCleanSession(clean).SetAutoReconnect(false)
		o.SetDefaultPublishHandler(func(_ pahov3.Client, m pahov3.Message) { in.add(m.Topic(), m.Payload()) })
		if change != nil {
			change(o)
		}
		c := pahov3.NewClient(o)
		finish(t, c.Connect())
		t.Cleanup(func() { c.Disconnect(0) })
		return c
	}
	sub := connect("sub", false, nil)
	finish(t, sub.Subscribe("t/#", 2, nil))
	pub := connect("pub", true, nil)
	for qos := range byte(3) {
		finish(t, pub.Publish(fmt.Sprint("t/", qos), qos, qos == 1, "x"))
	}
	in.await(t, "t/0 x", "t/1 x", "t/2 x")
	b.finished(t, "sub")
	sub.Disconnect(0)
	b.away(t, "sub")
	finish(t, pub.Publish("t/missed", 1, false, "1"))
	finish(t, pub.Publish("t/missed", 2, false, "2"))
	again := connect("sub", false, nil)
	in.await(t, "t/missed 1", "t/missed 2")
	var conn net.Conn
	connect("lost", true, func(o *pahov3.ClientOptions) {
		o.SetWill("t/will", "gone", 1, false)
		o.SetDialer(&net.Dialer{})
		o.SetCustomOpenConnectionFn(func(*url.URL, pahov3.ClientOptions) (net.Conn, error) {
			var err error
			conn, err = net.Dial("tcp", addr(b.Server))
			return conn, err
		})
	})
	_ = conn.Close()
	in.await(t, "t/will gone")
	finish(t, again.Unsubscribe("t/#"))
	finish(t, again.Subscribe("t/1", 0, nil))
	in.await(t, "t/1 x") // retained
}

func finish(t *testing.T, token pahov3.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("not done: %v", token.Error())
	}
}

// TestPahoGo5: Eclipse's Go client for MQTT 5, likewise, with properties.
func TestPahoGo5(t *testing.T) {
	b := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
	var in inbox
	hour := uint32(3600)
	connect := func(name string, change func(*paho.Connect)) (*paho.Client, *paho.Connack, net.Conn) {
		conn, err := net.Dial("tcp", addr(b.Server))
		if err != nil {
			t.Fatal(err)
		}
		c := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn), PacketTimeout: patience, OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			in.add(r.Packet.Topic, []byte(string(r.Packet.Payload)+r.Packet.Properties.User.Get("k")))
			return true, nil
		}}})
		cp := &paho.Connect{ClientID: name, CleanStart: true, KeepAlive: 30, Properties: &paho.ConnectProperties{}}
		if change != nil {
			change(cp)
		}
		ack, err := c.Connect(t.Context(), cp)
		if err != nil {
			t.Fatal(err)
		}
		return c, ack, conn
	}
	stay := func(c *paho.Connect) { c.CleanStart, c.Properties.SessionExpiryInterval = false, &hour }
	sub, _, _ := connect("sub", stay)
	if _, err := sub.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "t/#", QoS: 2}}}); err != nil {
		t.Fatal(err)
	}
	pub, _, _ := connect("pub", nil)
	publish := func(topic string, qos byte, retain bool, payload string) {
		t.Helper()
		props := &paho.PublishProperties{User: paho.UserProperties{{Key: "k", Value: "v"}}}
		if _, err := pub.Publish(t.Context(), &paho.Publish{Topic: topic, QoS: qos, Retain: retain, Payload: []byte(payload), Properties: props}); err != nil {
			t.Fatal(err)
		}
	}
	for qos := range byte(3) {
		publish(fmt.Sprint("t/", qos), qos, qos == 1, "x")
	}
	in.await(t, "t/0 xv", "t/1 xv", "t/2 xv")
	b.finished(t, "sub")
	if err := sub.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	b.away(t, "sub")
	publish("t/missed", 2, false, "1")
	_, ack, _ := connect("sub", stay)
	if !ack.SessionPresent {
		t.Error("the session did not go on")
	}
	in.await(t, "t/missed 1v")
	_, _, conn := connect("lost", func(c *paho.Connect) {
		c.WillMessage = &paho.WillMessage{Topic: "t/will", Payload: []byte("gone"), QoS: 1}
	})
	_ = conn.Close()
	in.await(t, "t/will gone")
}

// script is a program for Python's paho, or for MQTT.js, that has a minute.
func script(t *testing.T, language string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	if language == "python" {
		return exec.CommandContext(ctx, peer.Python(t, "paho.mqtt.client"), args...)
	}
	node, env := peer.Node(t, "mqtt")
	cmd := exec.CommandContext(ctx, node, args...)
	cmd.Env = env
	return cmd
}

// TestConversations: Python's paho and MQTT.js, on both versions, through every
// QoS, retained messages, a session that goes on and a will.
func TestConversations(t *testing.T) {
	for _, version := range []string{"4", "5"} {
		for _, name := range []string{"python", "node"} {
			t.Run(name+" "+version, func(t *testing.T) {
				b := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
				host, port := hostPort(t, b.Server)
				file := map[string]string{"python": "mqtt_conversation.py", "node": "mqtt_conversation.js"}[name]
				cmd := script(t, name, peer.Script(file), host, port, version)
				cmd.Stderr = writerTo{t}
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				in, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				lines := bufio.NewScanner(out)
				if !lines.Scan() || lines.Text() != "away" {
					t.Fatalf("said %q", lines.Text())
				}
				b.away(t, "sub")
				fmt.Fprintln(in)
				if !lines.Scan() || lines.Text() != "well" {
					t.Errorf("said %q", lines.Text())
				}
				_ = cmd.Process.Kill() // the last word is said
				_ = cmd.Wait()
			})
		}
	}
}

// TestMosquittoConversation: the command-line clients, with a session that goes
// on, a retained message and a will.
func TestMosquittoConversation(t *testing.T) {
	sub, pub := peer.Command(t, "mosquitto_sub"), peer.Command(t, "mosquitto_pub")
	for _, version := range []string{"mqttv311", "mqttv5"} {
		b := serveTopics(t, mqtt.Config{}, &adaptertest.Gate{})
		host, port := hostPort(t, b.Server)
		at := []string{"-h", host, "-p", port, "-V", version}
		kept := append(slices.Clone(at), "-i", "sub", "-c", "-q", "2", "-t", "t/#", "-F", "%t %p %r")
		if version == "mqttv5" {
			kept = append(kept, "-x", "3600")
		}
		run(t, sub, append(kept, "-E")...) // subscribes and leaves
		b.away(t, "sub")
		for qos := range 3 {
			run(t, pub, append(slices.Clone(at), "-q", fmt.Sprint(qos), "-t", fmt.Sprint("t/", qos), "-m", "x")...)
		}
		run(t, pub, append(slices.Clone(at), "-q", "1", "-r", "-t", "t/kept", "-m", "y")...)
		_, out := program(t, sub, append(kept, "-C", "4")...)
		var got []string
		for out.Scan() {
			got = append(got, out.Text())
		}
		// With QoS 0 nothing is kept for who is away; mosquitto_sub subscribes again,
		// so that it gets the retained message as such, too.
		slices.Sort(got)
		if want := []string{"t/1 x 0", "t/2 x 0", "t/kept y 0", "t/kept y 1"}; !slices.Equal(got, want) {
			t.Errorf("%s: received %q", version, got)
		}
		lost, _ := program(t, sub, append(slices.Clone(at), "-t", "nothing", "--will-topic", "w", "--will-payload", "gone")...)
		_, out = program(t, sub, append(slices.Clone(at), "-t", "w", "-C", "1")...)
		poll(t, "both are subscribed", func() bool { return b.subscriptions() >= 2 })
		_ = lost.Process.Kill()
		if !out.Scan() || strings.TrimSpace(out.Text()) != "gone" {
			t.Errorf("%s: the will was %q", version, out.Text())
		}
	}
}
