package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	pahov3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/tributary-iot/tributary/internal/peer"
)

// talk is one way in to the server for an application's own client, with real
// credentials.
type talk struct {
	s            *server
	user, secret string // "" with a certificate
	version      string // 4 is 3.1.1
	peerEncryption
}

// door is where it goes, by a name that certificates have.
func (k talk) door() (host, port string) {
	_, port, _ = net.SplitHostPort(k.s.addresses[peerDevice{protocol: "mqtt", encryption: k.peerEncryption}.door()])
	return "localhost", port
}

var conversations = map[string]struct {
	run func(t *testing.T, k talk)
	web bool // it has a WebSocket of its own
}{
	"paho-python":      {func(t *testing.T, k talk) { scriptTalks(t, k, python("paho.mqtt.client")(t), "mqtt_conversation.py") }, true},
	"MQTT.js":          {func(t *testing.T, k talk) { scriptTalks(t, k, node("mqtt")(t), "mqtt_conversation.js") }, true},
	"paho.mqtt.golang": {pahoGo3Talks, true},
	"paho.golang":      {pahoGo5Talks, false},
	"mosquitto":        {mosquittoTalks, false},
}

// TestConversationsWithCredentials: clients somebody else wrote, as applications,
// against a server that lets nobody in without credentials: every QoS, retained
// messages, a session that goes on, a will, properties on MQTT 5; with a secret, with
// a client certificate over TLS, and over WebSocket.
func TestConversationsWithCredentials(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	for _, mode := range []struct {
		name, version  string
		tls, cert, web bool
	}{{"secret", "4", false, false, false}, {"certificate", "5", true, true, false}, {"wss", "4", true, false, true}} {
		for name, c := range conversations {
			if mode.web && !c.web {
				continue
			}
			t.Run(name+" "+mode.name, func(t *testing.T) {
				k := talk{s: s, version: mode.version}
				tenant := strings.ToLower(strings.NewReplacer(".", "-", " ", "-").Replace(name + "-" + mode.name))
				if k.web = mode.web; mode.tls {
					k.ca = s.authority()
				}
				if mode.cert {
					k.cert, k.key = clientCertificate(t, tenant, time.Now().Add(time.Hour))
					s.client("device", "add", "app", "--kind", "application", "--tenant", tenant, "--cert", k.cert)
				} else {
					k.user, k.secret = "app@"+tenant, s.addDevice("app", "--kind", "application", "--tenant", tenant)
				}
				c.run(t, k)
			})
		}
	}
}

// scriptTalks runs a conversation of internal/peer.
func scriptTalks(t *testing.T, k talk, cmd *exec.Cmd, script string) {
	host, port := k.door()
	cmd.Args = append(cmd.Args, peer.Script(script), host, port, k.version)
	if k.user != "" {
		cmd.Args = append(cmd.Args, k.user, k.secret)
	}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, k.env()...)
	cmd.Stdin = strings.NewReader("\n") // the server knows what is away before it lets go of the connection
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if said := strings.Fields(string(out)); len(said) != 2 || said[1] != "well" {
		t.Errorf("said %q, %v\n%s", said, err, &errs)
	}
}

// heard is what a client received.
type heard struct {
	mu   sync.Mutex
	all  []string
	ever map[string]bool
}

// add enters a message. One that is marked as a duplicate counts unless it was
// heard before: a client may leave before its acknowledgement does, and one that
// has left may be sent something before the server knows.
func (h *heard) add(text string, duplicate bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if duplicate && h.ever[text] {
		return
	}
	if h.ever == nil {
		h.ever = map[string]bool{}
	}
	h.all, h.ever[text] = append(h.all, text), true
}

// expect waits for so many messages, and compares them in any order.
func (h *heard) expect(t *testing.T, wanted ...string) {
	t.Helper()
	eventually(t, fmt.Sprint(wanted), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.all) >= len(wanted)
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.Sort(h.all); !slices.Equal(h.all, wanted) {
		t.Errorf("received %q, want %q", h.all, wanted)
	}
	h.all = nil
}

func pahoGo3Talks(t *testing.T, k talk) {
	host, port := k.door()
	scheme := map[[2]bool]string{{false, false}: "tcp", {true, false}: "ssl", {true, true}: "wss"}[[2]bool{k.ca != "", k.web}]
	var got heard
	connect := func(name string, clean bool, will string) pahov3.Client {
		o := pahov3.NewClientOptions().AddBroker(fmt.Sprintf("%s://%s:%s/mqtt", scheme, host, port)).SetClientID(name).SetCleanSession(clean)
		o.SetAutoReconnect(false).SetUsername(k.user).SetPassword(k.secret).SetProtocolVersion(4)
		o.SetDefaultPublishHandler(func(_ pahov3.Client, m pahov3.Message) {
			got.add(m.Topic()+" "+string(m.Payload()), m.Duplicate())
		})
		if k.ca != "" {
			o.SetTLSConfig(k.config(t))
		}
		if will != "" {
			o.SetWill("t/will", will, 1, false)
		}
		c := pahov3.NewClient(o)
		done(t, c.Connect())
		t.Cleanup(func() { c.Disconnect(0) })
		return c
	}
	sub, pub := connect("sub", false, ""), connect("pub", true, "")
	done(t, pub.Publish("t/1", 1, true, "x"))
	done(t, sub.Subscribe("t/#", 2, nil))
	for _, qos := range []byte{0, 2} {
		done(t, pub.Publish(fmt.Sprint("t/", qos), qos, false, "x"))
	}
	got.expect(t, "t/0 x", "t/1 x", "t/2 x")
	sub.Disconnect(100)
	done(t, pub.Publish("t/missed", 2, false, "1"))
	connect("sub", false, "")
	got.expect(t, "t/missed 1")
	late := connect("late", true, "")
	done(t, late.Subscribe("t/1", 0, nil))
	got.expect(t, "t/1 x")
	connect("twin", true, "gone")
	connect("twin", true, "") // the first is taken over, without a goodbye
	got.expect(t, "t/will gone")
	for _, name := range []string{"one", "two"} {
		done(t, connect(name, true, "").Subscribe("$share/g/s/#", 1, nil))
	}
	for qos := byte(1); qos <= 2; qos++ {
		done(t, pub.Publish(fmt.Sprint("s/", qos), qos, false, "x"))
	}
	got.expect(t, "s/1 x", "s/2 x")
}

func done(t *testing.T, token pahov3.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("not done: %v", token.Error())
	}
}

func pahoGo5Talks(t *testing.T, k talk) {
	host, port := k.door()
	var got heard
	hour := uint32(3600)
	connect := func(name string, change func(*paho.Connect)) (*paho.Client, *paho.Connack, net.Conn) {
		conn, err := k.dial(t, net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		c := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn), PacketTimeout: patience, OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			got.add(r.Packet.Topic+" "+string(r.Packet.Payload)+r.Packet.Properties.User.Get("k"), r.Packet.Duplicate())
			return true, nil
		}}})
		p := &paho.Connect{ClientID: name, CleanStart: true, KeepAlive: 30, Properties: &paho.ConnectProperties{}}
		if k.user != "" {
			p.Username, p.UsernameFlag, p.Password, p.PasswordFlag = k.user, true, []byte(k.secret), true
		}
		if change != nil {
			change(p)
		}
		ack, err := c.Connect(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		return c, ack, conn
	}
	stay := func(c *paho.Connect) { c.CleanStart, c.Properties.SessionExpiryInterval = false, &hour }
	sub, _, _ := connect("sub", stay)
	subscribe := func(c *paho.Client, topic string) {
		if _, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: 2}}}); err != nil {
			t.Fatal(err)
		}
	}
	pub, _, _ := connect("pub", nil)
	publish := func(topic string, qos byte, retain bool) {
		t.Helper()
		props := &paho.PublishProperties{User: paho.UserProperties{{Key: "k", Value: "v"}}}
		if _, err := pub.Publish(t.Context(), &paho.Publish{Topic: topic, QoS: qos, Retain: retain, Payload: []byte("x"), Properties: props}); err != nil {
			t.Fatal(err)
		}
	}
	publish("t/1", 1, true)
	subscribe(sub, "t/#")
	publish("t/0", 0, false)
	publish("t/2", 2, false)
	got.expect(t, "t/0 xv", "t/1 xv", "t/2 xv")
	if err := sub.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	publish("t/missed", 2, false)
	_, ack, _ := connect("sub", stay)
	if !ack.SessionPresent {
		t.Error("the session did not go on")
	}
	got.expect(t, "t/missed xv")
	late, _, _ := connect("late", nil)
	subscribe(late, "t/1")
	got.expect(t, "t/1 xv")
	_, _, conn := connect("lost", func(c *paho.Connect) {
		c.WillMessage = &paho.WillMessage{Topic: "t/will", Payload: []byte("gone"), QoS: 1}
	})
	_ = conn.Close()
	got.expect(t, "t/will gone")
	for _, name := range []string{"one", "two"} {
		member, _, _ := connect(name, nil)
		subscribe(member, "$share/g/s/#")
	}
	publish("s/1", 1, false)
	publish("s/2", 2, false)
	got.expect(t, "s/1 xv", "s/2 xv")
}

// mosquittoTalks has the command-line clients say the same.
func mosquittoTalks(t *testing.T, k talk) {
	sub, pub := peer.Command(t, "mosquitto_sub"), peer.Command(t, "mosquitto_pub")
	host, port := k.door()
	at := []string{"-h", host, "-p", port, "-V", map[string]string{"4": "mqttv311", "5": "mqttv5"}[k.version]}
	if k.user != "" {
		at = append(at, "-u", k.user, "-P", k.secret)
	}
	if k.ca != "" {
		at = append(at, "--cafile", k.ca)
	}
	if k.cert != "" {
		at = append(at, "--cert", k.cert, "--key", k.key)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	run := func(program string, more ...string) string {
		t.Helper()
		out, err := exec.CommandContext(ctx, program, append(slices.Clone(at), more...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", program, more, err, out)
		}
		return string(out)
	}
	kept := []string{"-i", "sub", "-c", "-q", "2", "-t", "t/#", "-F", "%t %p %r"}
	property := []string{}
	if k.version == "5" {
		kept = append(kept, "-x", "3600")
		property = []string{"-D", "publish", "user-property", "k", "v"}
	}
	run(sub, append(slices.Clone(kept), "-E")...) // subscribes and leaves
	for _, qos := range []string{"1", "2"} {
		run(pub, append(slices.Clone(property), "-q", qos, "-t", "t/"+qos, "-m", "x")...)
	}
	run(pub, "-q", "1", "-r", "-t", "t/kept", "-m", "y")
	got := strings.Split(strings.TrimSpace(run(sub, append(slices.Clone(kept), "-C", "4")...)), "\n")
	// It subscribes again, so that it gets the retained message as such, too.
	if slices.Sort(got); !slices.Equal(got, []string{"t/1 x 0", "t/2 x 0", "t/kept y 0", "t/kept y 1"}) {
		t.Errorf("received %q", got)
	}
	lost := exec.CommandContext(ctx, sub, append(slices.Clone(at), "-t", "t/kept", "--will-topic", "w", "--will-payload", "gone", "--will-retain")...)
	out, err := lost.StdoutPipe()
	if err == nil {
		err = lost.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "y\n" { // it is subscribed
		t.Errorf("received %q, %v", line, err)
	}
	_ = lost.Process.Kill()
	_ = lost.Wait()
	if got := run(sub, "-t", "w", "-C", "1"); strings.TrimSpace(got) != "gone" {
		t.Errorf("the will was %q", got)
	}
	kept[1], kept[6], kept[8] = "member", "$share/g/s/#", "%p"
	run(sub, append(slices.Clone(kept), "-E")...)
	run(pub, "-q", "1", "-t", "s/1", "-m", "x")
	if got := run(sub, append(slices.Clone(kept), "-C", "1")...); strings.TrimSpace(got) != "x" {
		t.Errorf("a member of a group received %q", got)
	}
}

// dial opens what a client that brings no transport speaks on.
func (k talk) dial(t *testing.T, addr string) (net.Conn, error) {
	var d net.Dialer
	if c := k.config(t); c != nil {
		return (&tls.Dialer{Config: c}).DialContext(t.Context(), "tcp", addr)
	}
	return d.DialContext(t.Context(), "tcp", addr)
}
