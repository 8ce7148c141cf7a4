package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// nullStore forgets everything but its position.
type nullStore struct {
	storage.Reader
	rows atomic.Int64
	pos  atomic.Pointer[device.Position]
}

func (s *nullStore) Write(_ context.Context, b storage.Batch) error {
	if b.Stream == TelemetryStream {
		s.pos.Store(&device.Position{Epoch: b.Epoch, Seq: b.To})
		s.rows.Add(int64(len(b.Messages)))
	}
	return nil
}

func (s *nullStore) Position(_ context.Context, stream string) (device.Position, error) {
	if p := s.pos.Load(); p != nil && stream == TelemetryStream {
		return *p, nil
	}
	return device.Position{}, nil
}

func (s *nullStore) Close() error { return nil }

// BenchmarkPersist measures how fast the persister reads and decodes what
// waits in the stream.
func BenchmarkPersist(b *testing.B) {
	belt := inside(b, b.TempDir(), Options{Durability: Relaxed})
	fillStream(b, belt, b.N)
	b.ResetTimer()
	s := &nullStore{}
	p := persist(b, belt, s, PersistOptions{})
	waitStored(b, p)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	if n := s.rows.Load(); n != int64(b.N) {
		b.Fatalf("%d of %d", n, b.N)
	}
}

// BenchmarkSubmitAndPersist measures both at once, until the last row.
func BenchmarkSubmitAndPersist(b *testing.B) {
	for _, d := range []Durability{Strict, Relaxed} {
		b.Run(string(d), func(b *testing.B) {
			belt := inside(b, b.TempDir(), Options{Durability: d})
			p := persist(b, belt, &nullStore{}, PersistOptions{})
			b.ResetTimer()
			fillStream(b, belt, b.N)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "acked/s")
			waitStored(b, p)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func fillStream(b *testing.B, belt *Belt, n int) {
	payload := bytes.Repeat([]byte("x"), 200)
	slots := make(chan struct{}, 4000)
	for i := range n {
		slots <- struct{}{}
		m := &device.Message{Tenant: "default", Device: fmt.Sprintf("device-%d", i%1000), Protocol: device.MQTT, QoS: 1, Payload: payload,
			Measurements: []device.Measurement{{Name: "temperature", Value: device.Double(21.5)}, {Name: "on", Value: device.Bool(true)}}}
		if err := belt.Submit(m, func(err error) {
			if err != nil {
				b.Error(err)
			}
			<-slots
		}); err != nil {
			b.Fatal(err)
		}
	}
	for range cap(slots) {
		slots <- struct{}{}
	}
}
