package storagetest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

func testPointKinds(t *testing.T, open Open) {
	r := newRig(t, open)
	// One name whose values change kind, as a firmware update does it.
	values := []device.Value{
		device.Int(1), device.Int(math.MaxInt64), device.Int(math.MinInt64), device.Int(-1),
		device.String(""), device.String("on"), device.String("Grüße\n"), device.String(fmt.Sprintf("%0300d", 7)),
		device.Double(0), device.Double(math.Copysign(0, -1)), device.Double(21.5), device.Double(0.1), device.Double(1e300),
		device.Double(5e-324), device.Double(math.Inf(1)), device.Double(math.Inf(-1)), device.Double(math.NaN()), device.Double(math.Pi),
		device.Bool(true), device.Bool(false), device.Bytes(nil), device.Bytes([]byte{0, 0xff, 0xc3, 0x28}),
		device.Int(2), device.String("off"), device.Double(-40.25), device.Bool(true),
	}
	var want []storage.Point
	for i, v := range values {
		r.put(message("d", "c", float64(i), value("v", v)))
		want = append(want, storage.Point{Time: after(float64(i)), Value: v})
		if i%9 == 8 {
			r.seal()
		}
	}
	r.both(func() {
		got := r.points(storage.PointQuery{Device: "d", Channel: "c", Name: "v"})
		same(t, "how many", len(got), len(want))
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("point %d came back as %v (%v), was %v (%v)", i, got[i], got[i].Value.Kind(), want[i], want[i].Value.Kind())
			}
		}
		same(t, "of another channel", len(r.points(storage.PointQuery{Device: "d", Name: "v"})), 0)
	})
	// Long runs of each kind, so that whatever packs them has something to pack.
	for _, kind := range []string{"ints", "tenths", "noise", "flags", "words"} {
		var batch []*device.Message
		for i := range 300 {
			batch = append(batch, message("runs", "", float64(i), value(kind, run(kind, i))))
		}
		r.put(batch...)
	}
	r.both(func() {
		for _, kind := range []string{"ints", "tenths", "noise", "flags", "words"} {
			got := r.points(storage.PointQuery{Device: "runs", Name: kind})
			same(t, "how many "+kind, len(got), 300)
			for i, p := range got {
				same(t, kind, p, storage.Point{Time: after(float64(i)), Value: run(kind, i)})
			}
		}
	})
}

func run(kind string, i int) device.Value {
	switch kind {
	case "ints":
		return device.Int(int64(i * i * i))
	case "tenths":
		return device.Double(float64(200+i%17) / 10)
	case "noise":
		return device.Double(math.Sin(float64(i)))
	case "flags":
		return device.Bool(i%3 == 0)
	}
	return device.String([]string{"idle", "heating", "error: too hot"}[i%3])
}

func testPointTimes(t *testing.T, open Open) {
	r := newRig(t, open)
	y := func(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }
	times := []time.Time{after(0), y(1970), y(2099), after(2), y(1970).Add(-time.Hour), after(1), y(2), y(9999), after(3), y(2000),
		after(-86400 * 30), after(1).Add(time.Microsecond), y(2099).Add(time.Second)}
	for i, at := range times {
		r.put(message("d", "", float64(i), valueAt("v", device.Int(int64(i)), at), valueAt("w", device.String(fmt.Sprint(i)), at)))
		if i == 6 {
			r.seal()
		}
	}
	ordered := []int{6, 4, 1, 9, 10, 0, 5, 11, 3, 8, 2, 12, 7}
	ask := func(q storage.PointQuery) (got []int) {
		q.Device, q.Name = "d", "v"
		for _, p := range r.points(q) {
			got = append(got, int(p.Value.Int()))
			same(t, "time", p.Time, times[p.Value.Int()])
		}
		return got
	}
	r.both(func() {
		same(t, "all", ask(storage.PointQuery{}), ordered)
		same(t, "newest three", ask(storage.PointQuery{Limit: 3}), ordered[10:])
		same(t, "newest three until 2030", ask(storage.PointQuery{Limit: 3, Until: y(2030)}), []int{11, 3, 8})
		same(t, "since 2099", ask(storage.PointQuery{Since: y(2099)}), []int{2, 12, 7})
		same(t, "window", ask(storage.PointQuery{Since: after(1), Until: after(2)}), []int{5, 11})
		same(t, "until 1970", ask(storage.PointQuery{Until: y(1970)}), []int{6, 4})
		same(t, "microseconds", ask(storage.PointQuery{Since: after(1).Add(time.Nanosecond), Until: after(2)}), []int{11})
		same(t, "words too", len(r.points(storage.PointQuery{Device: "d", Name: "w"})), len(times))
	})
}

func testPointTies(t *testing.T, open Open) {
	r := newRig(t, open)
	at := after(100)
	for i, v := range []device.Value{device.Int(1), device.String("two"), device.Double(3), device.Int(4), device.Bool(true)} {
		r.put(message("d", "", float64(i), valueAt("v", v, at), valueAt("u", v, after(float64(i)))))
		check := func() {
			t.Helper()
			same(t, "of equal time", r.points(storage.PointQuery{Device: "d", Name: "v"}), []storage.Point{{Time: at, Value: v}})
		}
		check()
		if i%2 == 1 {
			r.seal()
			check()
		}
	}
	// Twice in one message, and twice in one batch.
	r.put(message("e", "", 1, valueAt("v", device.Int(1), at), valueAt("v", device.Double(2), at)))
	r.put(message("f", "", 1, valueAt("v", device.Double(1), at)), message("f", "", 2, valueAt("v", device.Int(2), at)), message("f", "", 3, valueAt("v", device.Int(3), at)))
	r.both(func() {
		same(t, "in one message", r.points(storage.PointQuery{Device: "e", Name: "v"}), []storage.Point{{Time: at, Value: device.Double(2)}})
		same(t, "in one batch", r.points(storage.PointQuery{Device: "f", Name: "v"}), []storage.Point{{Time: at, Value: device.Int(3)}})
	})
	// Newer epochs win over older ones, whatever their sequence.
	r.pos = device.Position{Epoch: 2}
	r.put(message("f", "", 4, valueAt("v", device.String("later"), at)))
	r.both(func() {
		same(t, "in a new epoch", r.points(storage.PointQuery{Device: "f", Name: "v"}), []storage.Point{{Time: at, Value: device.String("later")}})
		same(t, "limit counts times", len(r.points(storage.PointQuery{Device: "d", Name: "u", Limit: 4})), 4)
	})
}

func testLatest(t *testing.T, open Open) {
	r := newRig(t, open)
	latest := func() []storage.LatestValue {
		t.Helper()
		out, err := r.st.Latest(t.Context(), storage.LatestQuery{Tenant: "t", Device: "d"})
		r.must(err)
		return out
	}
	want := func(channel, name, unit string, v device.Value, at time.Time, seq uint64) storage.LatestValue {
		return storage.LatestValue{Device: "d", Channel: channel, Position: device.Position{Epoch: 1, Seq: seq},
			Measurement: device.Measurement{Name: name, Unit: unit, Value: v, Time: at}}
	}
	same(t, "of an unknown device", len(latest()), 0)
	temp := func(v float64, at time.Time) device.Measurement {
		return device.Measurement{Name: "temp", Unit: "°C", Value: device.Double(v), Time: at}
	}
	r.put(message("d", "b", 1, temp(1, after(1))), message("d", "a", 2, temp(2, after(2)), value("state", device.String("on"))))
	r.put(message("d", "a", 10, temp(3, after(1)))) // late: not the newest
	r.both(func() {
		same(t, "latest", latest(), []storage.LatestValue{
			want("a", "state", "", device.String("on"), after(2), 2), want("a", "temp", "°C", device.Double(2), after(2), 2),
			want("b", "temp", "°C", device.Double(1), after(1), 1)})
	})
	// Equal time: the one stored last. Kind changes: the newest value's. A little in the future is believed.
	r.put(message("d", "a", 20, temp(4, after(2)), value("state", device.Int(7))), message("d", "b", 21, temp(5, after(21+600))))
	r.both(func() {
		same(t, "latest", latest(), []storage.LatestValue{
			want("a", "state", "", device.Int(7), after(20), 4), want("a", "temp", "°C", device.Double(4), after(2), 4),
			want("b", "temp", "°C", device.Double(5), after(621), 5)})
	})
	// A clock in 2099 counts as of the stream's time, and so does not stick.
	r.put(message("d", "a", 700, temp(6, time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC))))
	r.both(func() {
		same(t, "a wrong clock", latest()[1], want("a", "temp", "°C", device.Double(6), after(700), 6))
	})
	r.put(message("d", "a", 701, temp(7, after(701))))
	r.both(func() { same(t, "after it", latest()[1], want("a", "temp", "°C", device.Double(7), after(701), 7)) })
}

func testLatestTenant(t *testing.T, open Open) {
	r := newRig(t, open)
	other := message("x", "", 1, value("v", device.Int(1)))
	other.Tenant = "t2"
	r.put(other)
	const n = 25
	for i := range n {
		r.put(message(fmt.Sprintf("d%02d", i), "", 1, value("v", device.Int(int64(i))), value("w", device.Int(0))), message(fmt.Sprintf("silent%02d", i), "", 1))
		if i == n/2 {
			r.seal()
		}
	}
	r.both(func() {
		for _, limit := range []int{1, 4, n, 1000} {
			var got []string
			q := storage.LatestQuery{Tenant: "t", Limit: limit}
			for {
				page, err := r.st.Latest(t.Context(), q)
				r.must(err)
				if len(page) == 0 {
					break
				}
				if len(page) > 2*limit {
					t.Fatalf("%d values of two series each: more than %d devices", len(page), limit)
				}
				for _, v := range page {
					got = append(got, v.Device+"."+v.Name)
				}
				q.After = page[len(page)-1].Device
			}
			var want []string
			for i := range n {
				want = append(want, fmt.Sprintf("d%02d.v", i), fmt.Sprintf("d%02d.w", i))
			}
			same(t, fmt.Sprintf("pages of %d devices", limit), got, want)
		}
	})
}
