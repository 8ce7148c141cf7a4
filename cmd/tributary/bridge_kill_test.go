package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/internal/peer"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// What the kills of a broker are tried with: TRIBUTARY_TEST_BRIDGE_MESSAGES=100000
// is the large size.
const (
	bridgeMessagesEnv = "TRIBUTARY_TEST_BRIDGE_MESSAGES"
	bridgeKills       = 5
	bridgeCredit      = 50
	bridgeDevices     = 10
)

// mortal is a broker that can be killed and comes back.
type mortal struct {
	url, receive, device string // of the bridge
	kill, start          func()
	// load has the messages of a range accepted; after an error nobody knows.
	load func(ctx context.Context, from, to int) error
}

// TestBridgeFromKilledTributary: the broker is a Tributary, whose telemetry is a
// subscription that outlives it.
func TestBridgeFromKilledTributary(t *testing.T) {
	n := sized(t, bridgeMessagesEnv, 1000)
	data := t.TempDir()
	broker := serve(t, data, "--open")
	addr := broker.addresses["amqp"]
	killedAgainAndAgain(t, mortal{
		url: "amqp://" + addr, receive: "[telemetry]\n    durable: true", device: "{annotation:x-opt-device}",
		kill:  func() { broker.kill() },
		start: func() { broker = serve(t, data, "--open", "--amqp", addr) },
		load: func(ctx context.Context, from, to int) error {
			return loadAMQP(ctx, "amqp://"+addr, func(name string) string { return name + "/telemetry" }, from, to)
		},
	}, n)
}

// TestBridgeFromKilledRabbitMQ reads a quorum queue.
func TestBridgeFromKilledRabbitMQ(t *testing.T) {
	t.Parallel() // it mostly waits for the broker
	n := sized(t, bridgeMessagesEnv, 3000)
	rabbit := peer.StartRabbitMQ(t, "telemetry")
	const queue = "/amq/queue/telemetry"
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("guest"), 0o600); err != nil {
		t.Fatal(err)
	}
	killedAgainAndAgain(t, mortal{
		url: "amqp://guest@" + rabbit.Addr + "\n    password_file: " + password, receive: "[" + queue + "]", device: "{subject}", kill: rabbit.Kill, start: rabbit.Start,
		load: func(ctx context.Context, from, to int) error {
			return loadAMQP(ctx, "amqp://guest:guest@"+rabbit.Addr, func(string) string { return queue }, from, to)
		},
	}, n)
}

// loadAMQP sends messages, and returns once the broker has accepted all of them.
// Every other one has a message-id.
func loadAMQP(ctx context.Context, url string, address func(name string) string, from, to int) error {
	conn, err := amqp.Dial(ctx, url, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		return err
	}
	senders := map[string]*amqp.Sender{}
	var receipts []amqp.SendReceipt
	for i := from; i < to; i++ {
		name := fmt.Sprintf("d%d", i%bridgeDevices)
		sender := senders[address(name)]
		if sender == nil {
			if sender, err = session.NewSender(ctx, address(name), nil); err != nil {
				return err
			}
			senders[address(name)] = sender
		}
		message := amqp.NewMessage(fmt.Appendf(nil, `{"n":%d}`, i))
		message.Header = &amqp.MessageHeader{Durable: true}
		message.Properties = &amqp.MessageProperties{Subject: &name}
		if i%2 == 0 {
			message.Properties.MessageID = strconv.Itoa(i)
		}
		receipt, err := sender.SendWithReceipt(ctx, message, nil)
		if err != nil {
			return err
		}
		receipts = append(receipts, receipt)
	}
	for _, r := range receipts {
		if state, err := r.Wait(ctx); err != nil {
			return err
		} else if _, ok := state.(*amqp.StateAccepted); !ok {
			return fmt.Errorf("the broker answered %T", state)
		}
	}
	return nil
}

// killedAgainAndAgain brings n messages through a bridge while the broker is killed,
// and looks at what is stored: nothing is lost; of messages with a key there is one
// each; of the others there are as many more as the broker delivered again, which is what
// it had not written down as acknowledged (Tributary does that ten times a second), and
// as the sender sent again.
func killedAgainAndAgain(t *testing.T, m mortal, n int) {
	here := serve(t, t.TempDir(), "--open", "--config", writeConfig(t, fmt.Sprintf(`
bridges:
  - name: plant
    url: %s
    receive: %s
    credit: %d
    device: '%s'
`, m.url, m.receive, bridgeCredit, m.device)))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	waitLong(ctx, t, "the bridge is up", func() bool { return here.metric("tributary_bridge_up") == 1 })
	const batch = 100
	resent := 0 // messages whose sending was repeated
	var loading sync.WaitGroup
	var broker sync.RWMutex // held while it is away
	loading.Go(func() {
		for from := 0; from < n && ctx.Err() == nil; {
			to := min(from+batch, n)
			broker.RLock()
			try, done := context.WithTimeout(ctx, time.Minute) // a broker that was killed may forget to answer
			err := m.load(try, from, to)
			done()
			broker.RUnlock()
			if err == nil {
				from = to
				continue
			}
			resent += to - from
			time.Sleep(10 * time.Millisecond) // between two tries
		}
	})
	begin := time.Now()
	for k := range bridgeKills {
		enough := float64(n * (k + 1) / (bridgeKills + 1))
		waitLong(ctx, t, "part of it came", func() bool { return here.metric("tributary_bridge_messages_accepted_total") >= enough })
		m.kill()
		broker.Lock() // no load runs against what is dead
		m.start()
		broker.Unlock()
	}
	loading.Wait()
	waitLong(ctx, t, "all of it came", func() bool {
		return here.metric("tributary_bridge_messages_accepted_total") >= float64(n)
	})
	took := time.Since(begin)
	seen := map[int]int{}
	waitLong(ctx, t, "all of it is stored", func() bool {
		seen = storedNumbers(ctx, t, here)
		return len(seen) >= n
	})
	twice := 0
	for i := range n {
		if seen[i] == 0 {
			t.Errorf("message %d is lost", i)
		}
		if i%2 == 0 && seen[i] > 1 {
			t.Errorf("message %d, which has a key, is stored %d times", i, seen[i])
		}
		twice += max(seen[i]-1, 0)
	}
	came := int(here.metric("tributary_bridge_messages_in_total"))
	if twice > came-n {
		t.Errorf("%d messages are stored again; of %d only %d came again", twice, n, came-n)
	}
	t.Logf("%d messages, %d kills, %v: %d came, %d released, %d without a key stored again, the sender repeated %d", n, bridgeKills, took.Round(time.Millisecond),
		came, int(here.metric("tributary_bridge_messages_released_total")), twice, resent)
	here.stop()
}

// waitLong is eventually for as long as ctx lasts.
func waitLong(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		if ctx.Err() != nil {
			t.Fatalf("gave up waiting until %s", what)
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}

// storedNumbers counts how often each number is stored.
func storedNumbers(ctx context.Context, t *testing.T, s *server) map[int]int {
	t.Helper()
	seen := map[int]int{}
	reader := pb.NewTelemetryServiceClient(apiOf(t, s))
	for d := range bridgeDevices {
		for token := ""; ; {
			page, err := reader.Query(ctx, &pb.QueryRequest{Parent: fmt.Sprintf("tenants/default/devices/d%d", d), PageSize: 10_000, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range page.GetMessages() {
				var body struct{ N int }
				if err := json.Unmarshal(m.GetPayload(), &body); err != nil {
					t.Fatal(err)
				}
				seen[body.N]++
			}
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
	}
	return seen
}
