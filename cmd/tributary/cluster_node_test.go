package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// where is the node of the one session a device has; "" when it has none or several.
func (c *cluster) where(s *server, name string) string {
	open := c.sessions(s, name)
	if len(open) != 1 {
		return ""
	}
	return open[0].GetNode()
}

// sendTo sends a command through a node and answers its id.
func (c *cluster) sendTo(s *server, name string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	sent, err := pb.NewCommandServiceClient(apiOf(c.t, s)).SendCommand(ctx, &pb.SendCommandRequest{
		Parent: "tenants/default/devices/" + name, Command: "go", OneWay: true, Ttl: durationpb.New(time.Hour),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return sent.GetId()
}

// trail is the states of a command, as a node answers them.
func (c *cluster) trail(s *server, id string) (trail, node string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	got, err := pb.NewCommandServiceClient(apiOf(c.t, s)).GetCommand(ctx, &pb.GetCommandRequest{Name: "tenants/default/devices/-/commands/" + id})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, e := range got.GetEvents() {
		trail += " " + strings.TrimPrefix(e.GetState().String(), "COMMAND_STATE_")
		node = e.GetNode()
	}
	return trail[1:], node
}

// TestLateDisconnectLeavesTheNewSession: the connection a device left behind on
// one node ends after it has come to another, in MQTT 5's own words, and takes
// nothing with it.
func TestLateDisconnectLeavesTheNewSession(t *testing.T) {
	onOneNATSAndThree(t, lateDisconnectLeavesTheNewSession)
}

func lateDisconnectLeavesTheNewSession(t *testing.T, c *cluster) {
	old := dialMQTT5(t, c.a, "dev")
	old.subscribe(t, "dev/commands/#")
	eventually(t, "the session on a", func() bool { return c.where(c.b, "dev") == "a" })

	fresh := dialMQTT5(t, c.b, "dev")
	fresh.subscribe(t, "dev/commands/#")
	if reason := old.disconnected(t); reason != packets.DisconnectSessionTakenOver {
		t.Errorf("the old session was ended with %#x", reason)
	}
	eventually(t, "the session on b", func() bool { return c.where(c.a, "dev") == "b" })
	for _, s := range []*server{c.a, c.b} {
		id := c.sendTo(s, "dev")
		fresh.accept(t, id)
		eventually(t, "the receipt", func() bool {
			trail, node := c.trail(s, id)
			return trail == "QUEUED SENT DELIVERED" && node == "b"
		})
	}
}

// TestNodeDiesWithLeases: what a killed node had sent goes back to the queue and
// its devices leave, once it has been silent for the time-out; deadlines that it
// would have kept are met.
func TestNodeDiesWithLeases(t *testing.T) { onOneNATSAndThree(t, nodeDiesWithLeases) }

func nodeDiesWithLeases(t *testing.T, c *cluster) {
	stay := dialMQTT5(t, c.a, "stay")
	stay.subscribe(t, "stay/commands/#")
	id := c.sendTo(c.a, "stay")
	stay.receive(t, id) // and says nothing
	expiring := c.expiring(c.a, "absent", 4*time.Second)
	eventually(t, "the session on a", func() bool { return c.where(c.b, "stay") == "a" })
	c.killA()
	eventually(t, "the end of the session", func() bool {
		trail, _ := c.trail(c.b, id)
		return len(c.sessions(c.b, "stay")) == 0 && trail == "QUEUED SENT QUEUED"
	})
	eventually(t, "the word that its node was lost", func() bool {
		told := c.presenceSoFar(c.b, "stay")
		last := told[len(told)-1]
		return last.GetReason() == "node-lost" && last.GetNode() == "a" && !last.GetConnected()
	})
	eventually(t, "the deadline", func() bool {
		trail, node := c.trail(c.b, expiring)
		return trail == "QUEUED EXPIRED" && node == "b"
	})
	back := dialMQTT5(t, c.b, "stay")
	back.subscribe(t, "stay/commands/#")
	back.accept(t, id)
	eventually(t, "the receipt", func() bool {
		trail, _ := c.trail(c.b, id)
		return trail == "QUEUED SENT QUEUED SENT DELIVERED"
	})
}

// TestDrainHandsOver: a node that is told to stop gives back what its devices had
// not settled, and says why they left, itself.
func TestDrainHandsOver(t *testing.T) {
	t.Parallel()
	c := openCluster(t)
	dev := dialMQTT5(t, c.a, "dev")
	dev.subscribe(t, "dev/commands/#")
	id := c.sendTo(c.a, "dev")
	dev.receive(t, id) // and says nothing
	eventually(t, "the session on a", func() bool { return c.where(c.b, "dev") == "a" })
	c.a.stop()
	eventually(t, "the end of the session", func() bool {
		told := c.presenceSoFar(c.b, "dev")
		last := told[len(told)-1]
		return last.GetReason() == "drain" && last.GetNode() == "a" && !last.GetConnected()
	})
	back := dialMQTT5(t, c.b, "dev")
	back.subscribe(t, "dev/commands/#")
	back.accept(t, id)
	eventually(t, "the receipt", func() bool {
		trail, node := c.trail(c.b, id)
		return trail == "QUEUED SENT QUEUED SENT DELIVERED" && node == "b"
	})
}

// TestDrainSendsElsewhere: a node that stops tells its MQTT 5 clients where another
// is reached, if that has said so, and a session goes on there.
func TestDrainSendsElsewhere(t *testing.T) {
	t.Parallel()
	c := newCluster(t, startNATS(t, true), "--open", "--mqtt-reached", "b.example:1883")
	dev := dialMQTT5(t, c.a, "dev")
	dev.subscribe(t, "dev/commands/#")
	where := func(c *mqtt5Conn) (reason byte, at string) {
		p := c.await(t, func(p *packets.ControlPacket) bool { return p.Type == packets.DISCONNECT })
		if p == nil {
			t.Fatal("the connection ended without a word")
		}
		d := p.Content.(*packets.Disconnect)
		return d.ReasonCode, d.Properties.ServerReference
	}
	c.a.stop()
	if reason, at := where(dev); reason != 0x9C || at != "b.example:1883" {
		t.Errorf("told 0x%02X, sent to %q", reason, at)
	}
	dev = dialMQTT5(t, c.b, "dev") // it is the address that b was told
	dev.subscribe(t, "dev/commands/#")
	c.b.stop() // nobody else is left
	if reason, at := where(dev); reason != 0x8B || at != "" {
		t.Errorf("told 0x%02X, sent to %q", reason, at)
	}
}

// expiring sends a command that nobody takes.
func (c *cluster) expiring(s *server, name string, ttl time.Duration) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	sent, err := pb.NewCommandServiceClient(apiOf(c.t, s)).SendCommand(ctx, &pb.SendCommandRequest{
		Parent: "tenants/default/devices/" + name, Command: "go", OneWay: true, Ttl: durationpb.New(ttl),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return sent.GetId()
}

// TestPausedNodeDoesNotAct: a node is stopped, loses its device and its place to
// another, and goes on: it settles nothing for the device, ends its sessions and
// is a node again.
func TestPausedNodeDoesNotAct(t *testing.T) { onOneNATSAndThree(t, pausedNodeDoesNotAct) }

func pausedNodeDoesNotAct(t *testing.T, c *cluster) {
	old := dialMQTT5(t, c.a, "dev")
	old.subscribe(t, "dev/commands/#")
	id := c.sendTo(c.b, "dev")
	held := old.receive(t, id)
	c.a.pause()
	old.ack(t, held) // it is in the stopped node's socket when that goes on
	trail := ""
	t.Cleanup(func() { t.Logf("the trail was %s", trail) })
	eventually(t, "the paused node's place is given up", func() bool {
		trail, _ = c.trail(c.b, id)
		return trail == "QUEUED SENT QUEUED" && len(c.sessions(c.b, "dev")) == 0
	})
	fresh := dialMQTT5(t, c.b, "dev")
	fresh.subscribe(t, "dev/commands/#")
	again := fresh.receive(t, id)
	if err := c.a.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	old.disconnected(t)
	if trail, _ = c.trail(c.b, id); trail != "QUEUED SENT QUEUED SENT" {
		t.Errorf("the late receipt counted: %s", trail)
	}
	fresh.ack(t, again)
	eventually(t, "the receipt", func() bool {
		var node string
		trail, node = c.trail(c.b, id)
		return trail == "QUEUED SENT QUEUED SENT DELIVERED" && node == "b"
	})
	eventually(t, "the paused node takes sessions again", func() bool {
		conn, err := tryMQTT5(c.a, "another")
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	if at := c.where(c.b, "dev"); at != "b" {
		t.Errorf("the device is shown on %q", at)
	}
}

// TestStandbyTakesTheStoreOver: of two nodes with one store the second waits,
// asks the first meanwhile, and writes when that is dead.
func TestStandbyTakesTheStoreOver(t *testing.T) {
	t.Parallel()
	url, rows := startNATS(t, true), filepath.Join(t.TempDir(), "rows.db")
	shared := []string{"--open", "--nats", url, "--node-timeout", nodeTimeout, "--store", "sqlite:" + rows}
	dataOne, dataTwo := t.TempDir(), t.TempDir()
	shareKey(t, dataOne, dataTwo)
	one := serve(t, dataOne, append(shared, "--node", "one")...)
	two := serve(t, dataTwo, append(shared, "--node", "two")...)
	send, closeIt, err := sendMQTT(t.Context(), two, "dev")
	if err != nil {
		t.Fatal(err)
	}
	defer closeIt()
	for n := range 3 {
		if err := send([]byte(`{"n":1}`)); err != nil {
			t.Fatal(err)
		}
		if got := len(two.query("dev")); got != n+1 { // asked of one, through two
			t.Fatalf("%d messages after %d", got, n+1)
		}
	}
	told := time.Now().Add(2 * time.Second) // one has told how far the store is
	eventually(t, "a report of the store", func() bool { return time.Now().After(told) })
	one.kill()
	if err := send([]byte(`{"n":4}`)); err != nil {
		t.Fatal(err)
	}
	out, err := two.tryClient("query", "--device", "dev")
	if err == nil || !strings.Contains(out, `node "one"`) {
		t.Logf("the store was taken over before it could be missed: %s", out)
	}
	eventually(t, "the store on two", func() bool {
		out, err := two.tryClient("query", "--device", "dev", "-o", "json")
		return err == nil && strings.Count(out, "\n") == 4
	})
	two.stop()
}

// TestAnotherCopyOfTheStore is not taken for the store.
func TestAnotherCopyOfTheStore(t *testing.T) {
	t.Parallel()
	url := startNATS(t, true)
	dir := t.TempDir()
	flags := func(file string) []string {
		return []string{"--open", "--nats", url, "--node", "n", "--node-timeout", nodeTimeout, "--store-name", "main", "--store", "sqlite:" + filepath.Join(dir, file)}
	}
	data := t.TempDir()
	s := serve(t, data, flags("rows.db")...)
	send, closeIt, err := sendMQTT(t.Context(), s, "dev")
	if err != nil {
		t.Fatal(err)
	}
	if err := send([]byte(`{"n":1}`)); err != nil {
		t.Fatal(err)
	}
	if len(s.query("dev")) != 1 {
		t.Fatal("not stored")
	}
	closeIt()
	s.stop()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := program(ctx, append([]string{"serve", "--data", data, "--mqtt", "off", "--amqp", "off", "--http", "off", "--grpc", "off", "--admin", "off"}, flags("other.db")...)...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another or an older copy") {
		t.Errorf("%v, said %q", err, out)
	}
}

// TestNodeOfTheSameName is refused, unless it is the same node come back.
func TestNodeOfTheSameName(t *testing.T) {
	t.Parallel()
	c := openCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := program(ctx, "serve", "--data", t.TempDir(), "--nats", c.url, "--node", "b", "--node-timeout", nodeTimeout, "--roles", "mqtt", "--admin", "off").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--node") {
		t.Errorf("%v, said %q", err, out)
	}
	c.killA()
	c.startA() // at once, though it is not silent for long
}

// TestNodesWithDifferentKeys: a node that could verify no secret is refused.
func TestNodesWithDifferentKeys(t *testing.T) {
	t.Parallel()
	c := openCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := program(ctx, "serve", "--data", t.TempDir(), "--nats", c.url, "--node", "c", "--roles", "mqtt", "--admin", "off").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "copy registry.key") {
		t.Errorf("%v, said %q", err, out)
	}
}

// TestRolesRefused: what would be unsafe or meaningless is refused in one sentence.
func TestRolesRefused(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"must be one of":        {"--roles", "mqtt,cook"},
		"needs --nats":          {"--roles", "mqtt"},
		"--nats: needs --store": {"--nats", "nats://127.0.0.1:1"},
		"would never write":     {"--nats", "nats://127.0.0.1:1", "--roles", "mqtt", "--store", "sqlite:x.db"},
		"this node has no":      {"--nats", "nats://127.0.0.1:1", "--roles", "mqtt", "--store-name", "x"},
		"choose between 1s and": {"--node-timeout", "1ms"},
	} {
		cfg, err := parseServe(args...)
		if err == nil {
			err = cfg.validate()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}

// TestRolesCloseDoors: a node has the doors of its roles only, and no store.
func TestRolesCloseDoors(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := serve(t, data, "--open", "--nats", startNATS(t, true), "--roles", "amqp,api")
	for _, door := range []string{"mqtt", "http"} {
		if s.addresses[door] != "" {
			t.Errorf("door %s is open at %s", door, s.addresses[door])
		}
	}
	if s.addresses["amqp"] == "" || s.addresses["grpc"] == "" {
		t.Errorf("doors of its roles are closed: %v", s.addresses)
	}
	if out, err := s.tryClient("query", "--device", "dev"); err == nil || !strings.Contains(out, "role persist") {
		t.Errorf("a query without any store: %v, %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(data, "store")); err == nil {
		t.Error("a store was made")
	}
	s.stop()
}

// TestBothNodesHoldTheDevice: two clients on two nodes want the commands of one
// device at once, through connections that are not its own. The newer lease has
// them, the other gets none; when the first leaves, the other has them again.
func TestBothNodesHoldTheDevice(t *testing.T) { onOneNATSAndThree(t, bothNodesHoldTheDevice) }

func bothNodesHoldTheDevice(t *testing.T, c *cluster) {
	for range 3 {
		one, two := dialMQTT5(t, c.a, "x"), dialMQTT5(t, c.b, "y")
		var both sync.WaitGroup
		for _, conn := range []*mqtt5Conn{one, two} {
			both.Go(func() { conn.subscribe(t, "dev/commands/#") })
		}
		both.Wait()
		eventually(t, "both sessions", func() bool { return len(c.sessions(c.a, "dev")) == 2 && len(c.sessions(c.b, "dev")) == 2 })
		id := c.sendTo(c.b, "dev")
		winner, other := one, two
		if winner.receivesFirst(t, other, id) {
			winner, other = two, one
		}
		eventually(t, "the receipt", func() bool {
			trail, _ := c.trail(c.a, id)
			return strings.HasSuffix(trail, " SENT DELIVERED") && strings.Count(trail, "DELIVERED") == 1
		})
		winner.Close()
		again := c.sendTo(c.a, "dev")
		other.accept(t, again)
		eventually(t, "the receipt of what came after", func() bool {
			trail, _ := c.trail(c.b, again)
			return strings.HasSuffix(trail, " SENT DELIVERED")
		})
		other.Close()
		eventually(t, "nobody there", func() bool { return len(c.sessions(c.a, "dev")) == 0 })
	}
}
