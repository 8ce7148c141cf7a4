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
		b.Run(fmt.Sprintf("devices=%d", devices), func(b *testing.B) { benchWrite(b, devices) })
	}
}

func benchWrite(b *testing.B, devices int) {
	messages := benchMessages(devices, 100_000)
	st, err := sqlite.Open(sqlite.Config{Path: filepath.Join(b.TempDir(), "bench.db")})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	cpu := cpuSeconds(b)
	b.ResetTimer()
	for seq := 0; seq < b.N; {
		at := seq % len(messages)
		batch := messages[at:min(at+1000, len(messages), at+b.N-seq)]
		for i := range batch {
			batch[i].Seq = uint64(seq + i + 1)
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
