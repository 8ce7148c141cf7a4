package mqtt_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

// belt is a house that commits what has gathered in one go, as the pipeline does.
type belt struct {
	adaptertest.Gate
	mu   sync.Mutex
	wake chan struct{}
	next []func(error)
}

func (b *belt) Submit(_ *device.Message, done func(error)) error {
	b.mu.Lock()
	b.next = append(b.next, done)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return nil
}

func (b *belt) run(ctx context.Context) {
	var batch []func(error)
	for {
		select {
		case <-b.wake:
		case <-ctx.Done():
			return
		}
		b.mu.Lock()
		batch, b.next = b.next, batch[:0]
		b.mu.Unlock()
		for _, done := range batch {
			done(nil)
		}
	}
}

// BenchmarkQoS1 is the whole door over loopback, the client included: 50
// connections, 20 messages of 200 bytes in flight on each.
func BenchmarkQoS1(b *testing.B) {
	const connections, inFlight = 50, 20
	house := &belt{wake: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go house.run(ctx)
	s := serve(b, mqtt.Config{}, house)
	payload := append([]byte(`{"temperature":21.5,"humidity":40,"note":"`), bytes.Repeat([]byte("x"), 154)...)
	payload = append(payload, `"}`...)
	peers := make([]*wire, connections)
	for i := range peers {
		peers[i] = join(b, s, packet.V311, fmt.Sprintf("dev%d", i))
	}
	var window []byte
	for id := range inFlight {
		p := &packet.Publish{QoS: 1, ID: uint16(id + 1), Topic: []byte("telemetry/room"), Payload: payload}
		window, _ = p.Append(window, packet.V311)
	}
	rounds := max(b.N/connections/inFlight, 1)
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for _, p := range peers {
		wg.Go(func() {
			acks := make([]byte, 4*inFlight)
			for range rounds {
				if _, err := p.conn.Write(window); err != nil {
					b.Error(err)
					return
				}
				if _, err := io.ReadFull(p.conn, acks); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(rounds*connections*inFlight)/b.Elapsed().Seconds(), "msg/s")
}

// BenchmarkIdleConnection reports what a connection that says nothing costs,
// the client's socket included.
func BenchmarkIdleConnection(b *testing.B) {
	s := serve(b, mqtt.Config{}, &adaptertest.Gate{})
	const n = 1000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		peers := make([]*wire, n)
		for i := range peers {
			peers[i] = join(b, s, packet.V311, fmt.Sprintf("dev%d", i))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "heap-B/conn")
		b.ReportMetric(float64(after.StackInuse-before.StackInuse)/n, "stack-B/conn")
		for _, p := range peers {
			_ = p.conn.Close()
		}
	}
}
