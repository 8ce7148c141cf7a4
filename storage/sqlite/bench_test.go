//go:build unix

package sqlite_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/storage"
	"github.com/tributary-iot/tributary/storage/sqlite"
)

// Batches of 1,000 messages from so many devices in turn: 200 bytes of JSON
// with a random id, three measurements, a step of ten seconds with some jitter.
func benchMessages(devices, n int) []storage.Message {
	rnd := rand.New(rand.NewPCG(1, 2))
	start := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	out := make([]storage.Message, n)
	for i := range out {
		d := i % devices
		at := start.Add(time.Duration(i/devices)*10*time.Second + time.Duration(rnd.IntN(1000))*time.Millisecond)
		temp, hum, count := float64(180+rnd.IntN(60))/10, float64(400+rnd.IntN(200))/10, int64(i/devices*3+rnd.IntN(3))
		payload := fmt.Appendf(nil, `{"msgId":"%016x","temperature":%.1f,"humidity":%.1f,"count":%d,"unit":"celsius","firmware":"2.11.4","site":"north-hall","status":"ok","note":"`,
			rnd.Uint64(), temp, hum, count)
		for len(payload) < 198 {
			payload = append(payload, '.')
		}
		m := &device.Message{Tenant: "default", Device: fmt.Sprintf("sensor-%05d", d), Channel: "room", Protocol: device.MQTT, QoS: 1,
			ContentType: "application/json", ReceivedAt: at, Payload: append(payload, `"}`...),
			Measurements: []device.Measurement{{Name: "temperature", Time: at, Value: device.Double(temp)},
				{Name: "humidity", Time: at, Value: device.Double(hum)}, {Name: "count", Time: at, Value: device.Int(count)}}}
		out[i] = storage.Message{StoredAt: at, Message: m, Body: devicepb.MarshalMessage(m)}
	}
	return out
}

// BenchmarkWrite counts messages: run it with -benchtime 1000000x. It reports
// the CPU of the whole process, seals included, and what the file holds at the
// end.
func BenchmarkWrite(b *testing.B) {
	for _, devices := range []int{1_000, 50_000} {
		b.Run(fmt.Sprintf("devices=%d", devices), func(b *testing.B) { benchWrite(b, devices, false) })
	}
	b.Run("devices=1000,keyed", func(b *testing.B) { benchWrite(b, 1000, true) })
}

func benchWrite(b *testing.B, devices int, keyed bool) {
	messages := benchMessages(devices, 100_000)
	st, err := sqlite.Open(sqlite.Config{Path: filepath.Join(b.TempDir(), "bench.db")})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	rnd := rand.New(rand.NewPCG(7, 8))
	cpu := cpuSeconds(b)
	b.ResetTimer()
	for seq := 0; seq < b.N; {
		at := seq % len(messages)
		batch := messages[at:min(at+1000, len(messages), at+b.N-seq)]
		for i := range batch {
			batch[i].Seq = uint64(seq + i + 1)
			if keyed { // never seen before, as most are; the body is kept as it is
				batch[i].Message.Key = fmt.Sprintf("%016x", rnd.Uint64())
			}
		}
		to := seq + len(batch)
		if err := st.Write(b.Context(), storage.Batch{Stream: "TELEMETRY", Epoch: 1, From: uint64(seq), To: uint64(to), Messages: batch}); err != nil {
			b.Fatal(err)
		}
		seq = to
	}
	if err := st.Seal(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	stats := st.Stats()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric((cpuSeconds(b)-cpu)/float64(b.N)*1e6, "cpu-s/M")
	b.ReportMetric(float64(stats.FileBytes)/float64(b.N), "B/msg")
	b.ReportMetric(stats.SealSeconds/float64(max(1, stats.Seals))*1000, "ms/seal")
	b.ReportMetric(float64(stats.SlowestWrite.Milliseconds()), "ms-slowest-write")
}

func cpuSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// BenchmarkRead asks a file of a million messages, nearly all sealed.
func BenchmarkRead(b *testing.B) {
	const devices, total = 1000, 1_000_000
	st, err := sqlite.Open(sqlite.Config{Path: filepath.Join(b.TempDir(), "bench.db")})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	messages := benchMessages(devices, total)
	for at := 0; at < total; at += 1000 {
		batch := messages[at : at+1000]
		for i := range batch {
			batch[i].Seq = uint64(at + i + 1)
		}
		if err := st.Write(b.Context(), storage.Batch{Stream: "TELEMETRY", Epoch: 1, From: uint64(at), To: uint64(at + 1000), Messages: batch}); err != nil {
			b.Fatal(err)
		}
		if at == total-50_000 {
			if err := st.Seal(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	first := messages[0].StoredAt
	name := func() string { return fmt.Sprintf("sensor-%05d", rand.IntN(devices)) }
	for _, c := range []struct {
		name string
		ask  func() error
	}{
		{"latest of one", func() error {
			_, err := st.Latest(b.Context(), storage.LatestQuery{Tenant: "default", Device: name()})
			return err
		}},
		{"latest of all", func() error {
			_, err := st.Latest(b.Context(), storage.LatestQuery{Tenant: "default", Limit: 1000})
			return err
		}},
		{"points of an hour", func() error {
			since := first.Add(time.Duration(rand.IntN(100)) * time.Minute)
			_, err := st.Points(b.Context(), storage.PointQuery{Tenant: "default", Device: name(), Channel: "room", Name: "temperature", Since: since, Until: since.Add(time.Hour), Limit: 1000})
			return err
		}},
		{"all points", func() error {
			_, err := st.Points(b.Context(), storage.PointQuery{Tenant: "default", Device: name(), Channel: "room", Name: "temperature", Limit: 100_000})
			return err
		}},
		{"all points in buckets of 5 minutes", func() error {
			_, err := st.Buckets(b.Context(), storage.BucketQuery{Tenant: "default", Device: name(), Channel: "room", Name: "temperature", Step: 5 * time.Minute, Limit: 10_000})
			return err
		}},
		{"newest 10 messages", func() error {
			_, err := st.Messages(b.Context(), storage.MessageQuery{Tenant: "default", Device: name(), Limit: 10})
			return err
		}},
		{"10 messages of the past", func() error {
			_, err := st.Messages(b.Context(), storage.MessageQuery{Tenant: "default", Device: name(), Until: first.Add(time.Hour), Limit: 10})
			return err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if err := c.ask(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
