package storagetest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

func (r *rig) buckets(q storage.BucketQuery) []storage.Bucket {
	r.t.Helper()
	q.Tenant = "t"
	if q.Limit == 0 {
		q.Limit = 1000
	}
	out, err := r.st.Buckets(r.t.Context(), q)
	r.must(err)
	return out
}

// short shows buckets as text: seconds after noon, count, numbers, min, max,
// sum, first and last value.
func short(buckets []storage.Bucket) (out []string) {
	for _, b := range buckets {
		out = append(out, fmt.Sprintf("%v: %d/%d %v %v %v %s %s", b.Start.Sub(noon).Seconds(), b.Count, b.Numbers, b.Min, b.Max, b.Sum, b.First.Value, b.Last.Value))
	}
	return out
}

func testBuckets(t *testing.T, open Open) {
	r := newRig(t, open)
	const minute = time.Minute
	ask := func(q storage.BucketQuery) []string {
		q.Device, q.Name = "d", "v"
		return short(r.buckets(q))
	}
	same(t, "of an unknown series", len(r.buckets(storage.BucketQuery{Device: "d", Name: "v", Step: minute})), 0)
	// A point every 20 s for two minutes, none for one, then the edges of the fifth.
	for i := range 6 {
		r.put(message("d", "", float64(20*i), value("v", device.Double(float64(i)))))
	}
	r.put(message("d", "", 240, value("v", device.Int(-5))), message("d", "", 299.999999, value("v", device.Int(7))), message("d", "", 300, value("v", device.Int(9))))
	all := []string{"0: 3/3 0 2 3 0 2", "60: 3/3 3 5 12 3 5", "240: 2/2 -5 7 2 -5 7", "300: 1/1 9 9 9 9 9"}
	r.both(func() {
		same(t, "all", ask(storage.BucketQuery{Step: minute}), all)
		same(t, "newest two", ask(storage.BucketQuery{Step: minute, Limit: 2}), all[2:])
		same(t, "newest two until", ask(storage.BucketQuery{Step: minute, Limit: 2, Until: after(240)}), all[:2])
		same(t, "cut by since and until", ask(storage.BucketQuery{Step: minute, Since: after(20), Until: after(100)}),
			[]string{"0: 2/2 1 2 3 1 2", "60: 2/2 3 4 7 3 4"})
		same(t, "one bucket of all", ask(storage.BucketQuery{Step: 24 * time.Hour}), []string{"-43200: 9/9 -5 9 26 0 9"})
		// 7 minutes do not divide the hour: buckets are counted from 1970.
		same(t, "odd step", r.buckets(storage.BucketQuery{Device: "d", Name: "v", Step: 7 * minute})[0].Start.UnixMicro()%(7*minute).Microseconds(), int64(0))
		one := r.buckets(storage.BucketQuery{Device: "d", Name: "v", Step: minute})[1]
		same(t, "times of first and last", []time.Time{one.First.Time, one.Last.Time}, []time.Time{after(60), after(100)})
		same(t, "another channel", len(r.buckets(storage.BucketQuery{Device: "d", Channel: "x", Name: "v", Step: minute})), 0)
	})
	for _, q := range []storage.BucketQuery{{Step: 0, Limit: 1}, {Step: -1, Limit: 1}, {Step: 1500, Limit: 1}, {Step: minute}, {Step: minute, Limit: 10_001}} {
		_, err := r.st.Buckets(t.Context(), q)
		r.wantCode(err, device.Invalid)
	}
}

func testBucketKinds(t *testing.T, open Open) {
	r := newRig(t, open)
	for i, v := range []device.Value{
		device.Int(1), device.String("on"), device.Double(2.5), device.Bool(true), device.Double(math.NaN()), device.Bytes([]byte{1}), // 0 to 5
		device.Bool(false), device.Bool(true), // 10 and 11
		device.Double(math.NaN()),                       // 20
		device.Double(math.Inf(1)), device.Int(1 << 60), // 30, 31
	} {
		at := []float64{0, 1, 2, 3, 4, 5, 10, 11, 20, 30, 31}[i]
		r.put(message("d", "", at, value("v", v)))
		if i == 3 {
			r.seal()
		}
	}
	inf := math.Inf(1)
	r.both(func() {
		same(t, "mixed", short(r.buckets(storage.BucketQuery{Device: "d", Name: "v", Step: 10 * time.Second})), []string{
			"0: 6/2 1 2.5 3.5 1 01", "10: 2/0 0 0 0 false true", "20: 1/0 0 0 0 NaN NaN",
			fmt.Sprintf("30: 2/2 %v %v %v +Inf %d", float64(1<<60), inf, inf, int64(1)<<60)})
	})
}

// testBucketTies: late points, points of equal time in heads, chunks, blocks of
// quiet devices, several partitions and epochs.
func testBucketTies(t *testing.T, open Open) {
	r := newRig(t, open)
	ask := func(dev string) []string {
		return short(r.buckets(storage.BucketQuery{Device: dev, Name: "v", Step: time.Hour}))
	}
	at := func(dev string, received float64, v int64, times ...float64) *device.Message {
		m := message(dev, "", received)
		for _, s := range times {
			m.Measurements = append(m.Measurements, valueAt("v", device.Int(v), after(s)))
		}
		return m
	}
	// "quiet" sends little in each seal, "busy" enough for chunks of its own.
	var busy []*device.Message
	for i := range 40 {
		busy = append(busy, at("busy", float64(i), 1, float64(i)))
	}
	r.put(append(busy, at("quiet", 0, 1, 0, 1, 2))...)
	r.seal()
	same(t, "busy", ask("busy"), []string{"0: 40/40 1 1 40 1 1"})
	same(t, "quiet", ask("quiet"), []string{"0: 3/3 1 1 3 1 1"})
	// A day later the same times come again, with other values: the later stored counts.
	const day = 86400.0
	r.put(at("busy", day, 10, 5, 5, 6), at("quiet", day, 10, 1), at("quiet", day+1, 20, 1), at("quiet", day+2, 5, day))
	r.both(func() {
		same(t, "busy", ask("busy"), []string{"0: 40/40 1 10 58 1 1"})
		same(t, "quiet", ask("quiet"), []string{"0: 3/3 1 20 22 1 1", "86400: 1/1 5 5 5 5 5"})
	})
	// Then a new epoch, whose sequences are lower.
	r.pos = device.Position{Epoch: 2}
	r.put(at("busy", 2*day, 100, 5), at("quiet", 2*day, 100, 1))
	r.both(func() {
		same(t, "busy", ask("busy"), []string{"0: 40/40 1 100 148 1 1"})
		same(t, "quiet", ask("quiet"), []string{"0: 3/3 1 100 102 1 1", "86400: 1/1 5 5 5 5 5"})
	})
	// Of another kind at the same time.
	r.put(&device.Message{Tenant: "t", Device: "quiet", ReceivedAt: after(2*day + 1),
		Measurements: []device.Measurement{valueAt("v", device.String("off"), after(1))}})
	r.both(func() {
		same(t, "quiet", ask("quiet"), []string{"0: 3/2 1 1 2 1 1", "86400: 1/1 5 5 5 5 5"})
	})
}
