package pipeline

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/pipeline/embedded"
)

// inside starts an embedded server and a belt on it; both end with the test.
func inside(t testing.TB, dir string, o Options) *Belt {
	t.Helper()
	o.Server = startEmbedded(t, dir, o.Durability)
	return openOn(t, o)
}

func startEmbedded(t testing.TB, dir string, d Durability) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(embedded.Options{Dir: dir, Durability: embedded.Durability(d), MaxStore: 8 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopWithin(t, s.Shutdown) })
	return s
}

func openOn(t testing.TB, o Options) *Belt {
	t.Helper()
	b, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopWithin(t, b.Close) })
	return b
}

func stopWithin(t testing.TB, stop func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := stop(ctx); err != nil {
		t.Error(err)
	}
}

// externalServer is a NATS server on a TCP port, as somebody else would run it.
func externalServer(t testing.TB, jetstream bool) (*natsserver.Server, string) {
	t.Helper()
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true,
		JetStream: jetstream, StoreDir: storeDir(t), JetStreamMaxStore: 1 << 30, SyncAlways: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the external server did not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s, s.ClientURL()
}

// storeDir is a directory for a server that may still write for a moment after
// it has said that it is down.
func storeDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nats-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eventually(t, "the server's files to go", func() bool { return os.RemoveAll(dir) == nil }) })
	return dir
}

// wire is a TCP proxy that can stop carrying what the server says.
type wire struct {
	net.Listener
	target string
	mu     sync.Mutex
	mute   bool
	conns  []net.Conn
}

func openWire(t testing.TB, target string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, target: target}
	t.Cleanup(func() { l.Close(); w.cut() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", target)
			if err != nil {
				c.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, c, s)
			w.mu.Unlock()
			go func() { defer s.Close(); io.Copy(s, c) }()
			go func() { defer c.Close(); io.Copy(&muted{w, c}, s) }()
		}
	}()
	return w
}

type muted struct {
	w *wire
	c net.Conn
}

func (m *muted) Write(p []byte) (int, error) {
	m.w.mu.Lock()
	mute := m.w.mute
	m.w.mu.Unlock()
	if mute {
		return len(p), nil
	}
	return m.c.Write(p)
}

// silence drops everything the server says from now on.
func (w *wire) silence() { w.mu.Lock(); w.mute = true; w.mu.Unlock() }

// heal cuts the connections and lets new ones through.
func (w *wire) heal() { w.mu.Lock(); w.mute = false; w.mu.Unlock(); w.cut() }

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

// eventually polls until ok answers true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func testMessage(name string, n int) *device.Message {
	return &device.Message{Tenant: "default", Device: name, Channel: "room", Protocol: device.MQTT, QoS: 1,
		ContentType: "application/json", ReceivedAt: time.Unix(1_800_000_000, int64(n)).UTC(), Payload: fmt.Appendf(nil, `{"n":%d}`, n),
		Measurements: []device.Measurement{{Name: "n", Time: time.Unix(1_800_000_000, int64(n)).UTC(), Value: device.Int(int64(n))}}}
}

// submitAll submits messages 0 to n-1 of a device and waits for their acks.
func submitAll(t testing.TB, b *Belt, name string, n int) {
	t.Helper()
	errs := make(chan error, n)
	for i := range n {
		if err := b.Submit(testMessage(name, i), func(err error) { errs <- err }); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

func lastSeq(t testing.TB, b *Belt, stream string) uint64 {
	t.Helper()
	s, err := b.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}
