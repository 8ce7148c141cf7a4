package mqtt_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

func TestTakeover(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		gate := &adaptertest.Gate{}
		s := serve(t, mqtt.Config{}, gate)
		old := join(t, s, v, "dev1")
		old.subscribe("commands", 1)
		newer := join(t, s, v, "dev1")
		old.wantEnd(packet.SessionTakenOver)
		newer.subscribe("commands", 1)
		until(t, gate, "only the newer session is attached", func() bool { return gate.Sessions(id1) == 1 })
		gate.Send(command("C1", ""))
		want[*packet.Publish](newer)
		third := join(t, s, v, "dev1") // the newer one is the one to be taken over now
		newer.wantEnd(packet.SessionTakenOver)
		third.wantSilence()
	})
}

// TestSameClientIDAnotherPrincipal: a client id alone takes over nothing.
func TestSameClientIDAnotherPrincipal(t *testing.T) {
	gate := &adaptertest.Gate{Secrets: map[device.ID]string{id1: "s", {Tenant: "default", Device: "dev2"}: "s", {Tenant: "acme", Device: "dev1"}: "s"}}
	s := serve(t, mqtt.Config{}, gate)
	var peers []*wire
	for _, user := range []string{"dev1", "dev2", "dev1@acme"} {
		p := dial(t, s, packet.V5)
		p.send(&packet.Connect{Version: packet.V5, ClientID: "same", HasUser: true, User: user, HasPassword: true, Password: []byte("s")})
		want[*packet.Connack](p)
		peers = append(peers, p)
	}
	for _, p := range peers {
		p.wantSilence()
	}
}

// TestTakeoverRace: of many connections of one client exactly one survives,
// and it can work.
func TestTakeoverRace(t *testing.T) {
	gate := &adaptertest.Gate{}
	reg := prometheus.NewRegistry()
	s := serve(t, mqtt.Config{Registerer: reg}, gate)
	var wg sync.WaitGroup
	const n = 100
	peers := make([]*wire, n)
	for i := range peers {
		peers[i] = dial(t, s, packet.V5)
		wg.Go(func() {
			b, _ := (&packet.Connect{Version: packet.V5, ClientID: "dev1"}).Append(nil, packet.V5)
			_, _ = peers[i].conn.Write(b)
		})
	}
	wg.Wait()
	poll(t, "one connection is left", func() bool {
		return gathered(t, reg, "tributary_mqtt_takeovers_total") == n-1 && gathered(t, reg, "tributary_mqtt_connections") == 1
	})
	alive := 0
	for _, p := range peers {
		want[*packet.Connack](p)
		b, _ := packet.Pingreq{}.Append(nil, packet.V5)
		_, _ = p.conn.Write(b)
		if x, err := p.next(); err == nil && x.Type() == packet.PINGRESP {
			alive++
		}
	}
	if alive != 1 {
		t.Errorf("%d connections are alive", alive)
	}
}

func gathered(t testing.TB, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func TestKeepAlive(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		p := dial(t, serve(t, mqtt.Config{}, &adaptertest.Gate{}), v)
		p.send(&packet.Connect{Version: v, CleanStart: true, ClientID: "dev1", KeepAlive: 1})
		want[*packet.Connack](p)
		start := time.Now()
		p.wantEnd(packet.KeepAliveTimeout)
		if took := time.Since(start); took < 1400*time.Millisecond {
			t.Errorf("closed after %v, before one and a half intervals", took)
		}
	})
}

func TestShutdownDrains(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		gate := &adaptertest.Gate{}
		h := hold(gate)
		s := serve(t, mqtt.Config{}, gate)
		p := join(t, s, v, "dev1")
		p.subscribe("commands", 1)
		idle := dial(t, s, v) // has not said CONNECT yet
		p.send(publish(1, "telemetry", "a"), publish(2, "telemetry", "b"))
		a, b := h.next(t), h.next(t)
		stopped := make(chan error, 1)
		go func() { stopped <- s.Shutdown(context.Background()) }()
		refusesNew(t, s)
		select {
		case <-stopped:
			t.Fatal("shut down before the messages were decided")
		default:
		}
		b.done(nil)
		a.done(nil)
		p.wantAck(1, packet.Success)
		p.wantAck(2, packet.Success)
		p.wantEnd(packet.ServerShuttingDown)
		_ = p.conn.Close()
		idle.wantClosed()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if n := gate.Sessions(id1); n != 0 {
			t.Errorf("%d sessions attached", n)
		}
	})
}

func TestShutdownIsCut(t *testing.T) {
	gate := &adaptertest.Gate{}
	h := hold(gate)
	s := serve(t, mqtt.Config{}, gate)
	p := join(t, s, packet.V5, "dev1")
	p.send(publish(1, "telemetry", "a"))
	never := h.next(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); err != context.Canceled {
		t.Errorf("shutdown: %v", err)
	}
	p.wantEndOrDisconnect()
	never.done(nil) // late, and harmless
}

// wantEndOrDisconnect expects the end, with a DISCONNECT or cut.
func (p *wire) wantEndOrDisconnect() {
	p.t.Helper()
	if x, err := p.next(); err == nil {
		if _, ok := x.(*packet.Disconnect); !ok {
			p.t.Fatalf("got %+v", x)
		}
		p.wantClosed()
	}
}

func TestShutdownBeforeServeAndTwice(t *testing.T) {
	s, err := mqtt.Open(mqtt.Config{Addr: "127.0.0.1:0"}, &adaptertest.Gate{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if err := s.Serve(); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	s := serve(t, mqtt.Config{}, &adaptertest.Gate{})
	for name, cfg := range map[string]mqtt.Config{
		"port in use":  {Addr: addr(s)},
		"bad address":  {Addr: "nowhere:x"},
		"window":       {Addr: "127.0.0.1:0", Window: 70_000},
		"message size": {Addr: "127.0.0.1:0", MaxMessageBytes: -1},
		"keep-alive":   {Addr: "127.0.0.1:0", MaxKeepAlive: time.Millisecond},
	} {
		if _, err := mqtt.Open(cfg, &adaptertest.Gate{}); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// TestSlowReader: a peer that takes nothing is cut and holds up nobody.
func TestSlowReader(t *testing.T) {
	gate := &adaptertest.Gate{}
	s := serve(t, mqtt.Config{WriteTimeout: 50 * time.Millisecond, CommandWindow: 1000}, gate)
	slow := join(t, s, packet.V311, "dev1")
	slow.subscribe("commands", 1)
	_ = slow.conn.(*net.TCPConn).SetReadBuffer(1)
	big := command("C", "")
	big.Payload = make([]byte, 1<<20)
	for range 30 {
		gate.Send(big)
	}
	until(t, gate, "the slow session is detached", func() bool { return gate.Sessions(id1) == 0 })
	quick := join(t, s, packet.V311, "dev2")
	quick.send(publish(1, "telemetry", "1"))
	quick.wantAck(1, packet.Success)
}

// TestPanicCostsOneConnection: a fault of ours ends that connection only.
func TestPanicCostsOneConnection(t *testing.T) {
	gate := &adaptertest.Gate{}
	gate.OnSubmit = func(m *device.Message, done func(error)) error {
		if m.Device == "dev1" {
			panic("a fault for the test")
		}
		go done(nil)
		return nil
	}
	s := serve(t, mqtt.Config{}, gate)
	bystander := join(t, s, packet.V5, "dev2")
	p := join(t, s, packet.V5, "dev1")
	p.send(publish(1, "telemetry", "1"))
	p.wantEnd(packet.UnspecifiedError)
	bystander.send(publish(1, "telemetry", "1"))
	bystander.wantAck(1, packet.Success)
}

func TestMetrics(t *testing.T) {
	gate := &adaptertest.Gate{RefuseAnonymous: true, Secrets: map[device.ID]string{id1: "s"}}
	reg := prometheus.NewRegistry()
	s := serve(t, mqtt.Config{Registerer: reg}, gate)
	serve(t, mqtt.Config{Registerer: reg}, gate) // a second door shares the metrics
	stranger := dial(t, s, packet.V5)
	stranger.send(&packet.Connect{Version: packet.V5})
	want[*packet.Connack](stranger)
	p := dial(t, s, packet.V5)
	p.send(&packet.Connect{Version: packet.V5, HasUser: true, User: "dev1", HasPassword: true, Password: []byte("s")})
	want[*packet.Connack](p)
	p.send(publish(1, "telemetry", "1"), publish(2, "nowhere", "1"))
	p.wantAck(1, packet.Success)
	p.wantAck(2, packet.TopicNameInvalid)
	for name, want := range map[string]float64{
		"tributary_mqtt_connections": 1, "tributary_mqtt_connects_total": 2, "tributary_mqtt_auth_failures_total": 1,
		"tributary_mqtt_messages_in_total": 1, "tributary_mqtt_refused_total": 1, "tributary_mqtt_panics_total": 0,
	} {
		if got := gathered(t, reg, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// writes notes which goroutine wrote to a connection last.
type writes struct {
	net.Conn
	mu   sync.Mutex
	from []string
}

func (w *writes) Write(b []byte) (int, error) {
	stack := make([]byte, 64<<10)
	stack = stack[:runtime.Stack(stack, false)]
	w.mu.Lock()
	w.from = append(w.from, string(stack))
	w.mu.Unlock()
	return w.Conn.Write(b)
}

// TestFirstAnswersAreWrittenByWhoReads: CONNACK and the first SUBACK need no goroutine;
// when much was written already, answers have one, so that a peer that takes nothing
// does not keep us from reading.
func TestFirstAnswersAreWrittenByWhoReads(t *testing.T) {
	conn, served := pipe(t)
	t.Cleanup(func() { conn.Close() })
	w := &writes{Conn: served}
	serve(t, mqtt.Config{}, &adaptertest.Gate{}).ServeConn(w)
	p := &wire{t: t, conn: conn, r: packet.NewReader(conn, packet.V5, packet.MaxPacketBytes), v: packet.V5}
	p.send(&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "dev1"})
	want[*packet.Connack](p)
	p.subscribe("commands", 1)
	for range 2 << 10 / 2 { // PINGRESP has two bytes
		p.send(packet.Pingreq{})
		want[packet.Pingresp](p)
	}
	p.subscribe("commands", 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, stack := range w.from {
		reads := strings.Contains(stack, "(*session).run(")
		if first := i < 2; first != reads {
			t.Errorf("write %d of %d: by the goroutine that reads: %v", i, len(w.from), reads)
		}
	}
}

// slowGate attaches nobody before it is told to.
type slowGate struct {
	*adaptertest.Gate
	attach chan struct{}
}

func (g *slowGate) Attach(ctx context.Context, s device.Session, offer func(device.Delivery), lost func()) (adapters.Attachment, error) {
	<-g.attach
	return g.Gate.Attach(ctx, s, offer, lost)
}

// TestConnackDoesNotWait: who sent SUBSCRIBE without waiting for CONNACK hears that it is
// connected though its subscription takes its time.
func TestConnackDoesNotWait(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		g := &slowGate{&adaptertest.Gate{}, make(chan struct{})}
		p := dial(t, serve(t, mqtt.Config{}, g), v)
		attach := sync.OnceFunc(func() { close(g.attach) })
		t.Cleanup(attach)
		p.send(&packet.Connect{Version: v, CleanStart: true, ClientID: "dev1"}, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "commands", QoS: 1}}})
		if ack := want[*packet.Connack](p); ack.Reason != packet.Success {
			t.Errorf("%+v", ack)
		}
		attach()
		if ack := want[*packet.Suback](p); ack.Reasons[0] != 1 {
			t.Errorf("%+v", ack)
		}
	})
}

// TestFirstAnswersLeaveTogether when the client did not wait for CONNACK.
func TestFirstAnswersLeaveTogether(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		conn, served := pipe(t)
		t.Cleanup(func() { conn.Close() })
		w := &writes{Conn: served}
		serve(t, mqtt.Config{HoldConnack: time.Hour}, &adaptertest.Gate{}).ServeConn(w)
		p := &wire{t: t, conn: conn, r: packet.NewReader(conn, v, packet.MaxPacketBytes), v: v}
		subscribe := &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "commands", QoS: 1}}}
		p.send(&packet.Connect{Version: v, CleanStart: true, ClientID: "dev1"}, subscribe)
		want[*packet.Connack](p)
		want[*packet.Suback](p)
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.from) != 1 {
			t.Errorf("CONNACK and SUBACK left in %d writes", len(w.from))
		}
	})
}

// TestAnEndIsNotTheLastWord: a client that has said its last and still listens hears all
// it is owed before the connection ends, which it is told is no accident.
func TestAnEndIsNotTheLastWord(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		const pings = 1000
		p := join(t, serve(t, mqtt.Config{}, &adaptertest.Gate{}), v, "dev1")
		b, err := packet.Pingreq{}.Append(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		p.raw(bytes.Repeat(b, pings)...)
		if err := p.conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		for range pings {
			want[packet.Pingresp](p)
		}
		if _, err := p.next(); err != io.EOF {
			t.Errorf("the connection ended with %v", err)
		}
	})
}
