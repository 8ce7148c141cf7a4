package pipeline

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/tributary-iot/tributary/device"
)

// BenchmarkSubmit measures acknowledged messages a second: 200-byte payloads,
// 1,000 devices, and so many waiting for their ack at a time.
func BenchmarkSubmit(b *testing.B) {
	for _, d := range []Durability{Strict, Relaxed} {
		for _, window := range []int{1, 1000, 4000} {
			b.Run(fmt.Sprintf("%s/window=%d", d, window), func(b *testing.B) { benchmarkSubmit(b, d, window) })
		}
	}
}

func benchmarkSubmit(b *testing.B, d Durability, window int) {
	belt := inside(b, b.TempDir(), Options{Durability: d})
	payload := bytes.Repeat([]byte("x"), 200)
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("device-%d", i)
	}
	slots := make(chan struct{}, window)
	var wg sync.WaitGroup
	b.ResetTimer()
	for i := range b.N {
		slots <- struct{}{}
		wg.Add(1)
		m := &device.Message{Tenant: "default", Device: names[i%len(names)], Protocol: device.MQTT, QoS: 1, Payload: payload}
		if err := belt.Submit(m, func(err error) {
			if err != nil {
				b.Error(err)
			}
			<-slots
			wg.Done()
		}); err != nil {
			b.Fatal(err)
		}
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}
