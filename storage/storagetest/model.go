package storagetest

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// model is the contract in its most obvious form: everything in one slice, in
// the order it was stored, and looked through for every question.
type model struct{ rows []modelRow }

// modelRow is a message; one that is passed has a successor in a channel that
// keeps no history.
type modelRow struct {
	device.Stored
	last, passed bool
}

func (m *model) add(row device.Stored, last bool) {
	for i := range m.rows {
		old := &m.rows[i]
		old.passed = old.passed || last && old.last && old.ID() == row.ID() && old.Channel == row.Channel
	}
	m.rows = append(m.rows, modelRow{Stored: row, last: last})
}

// repeats says whether a keyed message is stored already.
func (m *model) repeats(row *device.Stored) bool {
	return row.Key != "" && slices.ContainsFunc(m.rows, func(r modelRow) bool {
		return r.ID() == row.ID() && r.Key == row.Key && string(r.Payload) == string(row.Payload) && row.StoredAt.Sub(r.StoredAt) < dedupWindow
	})
}

func (m *model) messages(q storage.MessageQuery) (out []device.Stored) {
	for _, all := range m.rows {
		row := all.Stored
		if all.passed || row.Tenant != q.Tenant || row.Device != q.Device || q.Channel != nil && row.Channel != *q.Channel || !inWindow(row.ReceivedAt, q.Since, q.Until) {
			continue
		}
		if q.Name != "" {
			row.Measurements = slices.DeleteFunc(slices.Clone(row.Measurements), func(x device.Measurement) bool { return x.Name != q.Name })
			if len(row.Measurements) == 0 {
				continue
			}
		}
		out = append(out, row)
	}
	slices.SortStableFunc(out, func(a, b device.Stored) int {
		return cmp.Or(a.ReceivedAt.Compare(b.ReceivedAt), cmp.Compare(a.Position.Epoch, b.Position.Epoch), cmp.Compare(a.Position.Seq, b.Position.Seq))
	})
	return out
}

func (m *model) points(q storage.PointQuery) (out []storage.Point) {
	at := map[time.Time]device.Value{}
	for _, row := range m.rows {
		if row.passed || row.Tenant != q.Tenant || row.Device != q.Device || row.Channel != q.Channel {
			continue
		}
		for _, x := range row.Measurements {
			if x.Name == q.Name && inWindow(x.Time, q.Since, q.Until) {
				at[x.Time] = x.Value
			}
		}
	}
	for t, v := range at {
		out = append(out, storage.Point{Time: t, Value: v})
	}
	slices.SortFunc(out, func(a, b storage.Point) int { return a.Time.Compare(b.Time) })
	return out[max(0, len(out)-q.Limit):]
}

func (m *model) buckets(q storage.BucketQuery) (out []storage.Bucket) {
	points := m.points(storage.PointQuery{Tenant: q.Tenant, Device: q.Device, Channel: q.Channel, Name: q.Name, Since: q.Since, Until: q.Until, Limit: 1 << 30})
	for _, p := range slices.Backward(points) {
		step := q.Step.Microseconds()
		n := p.Time.UnixMicro() / step
		for n*step > p.Time.UnixMicro() {
			n--
		}
		if start := time.UnixMicro(n * step).UTC(); len(out) == 0 || !out[len(out)-1].Start.Equal(start) {
			out = append(out, storage.Bucket{Start: start, Last: p})
		}
		b := &out[len(out)-1]
		b.First, b.Count = p, b.Count+1
		x, ok := p.Value.Number()
		if !ok || math.IsNaN(x) {
			continue
		}
		if b.Numbers == 0 || x < b.Min {
			b.Min = x
		}
		if b.Numbers == 0 || x > b.Max {
			b.Max = x
		}
		b.Numbers, b.Sum = b.Numbers+1, b.Sum+x
	}
	out = out[:min(len(out), q.Limit)]
	slices.Reverse(out)
	return out
}

func (m *model) latest(tenant, dev string) (out []storage.LatestValue) {
	type key struct{ channel, name string }
	last := map[key]storage.LatestValue{}
	for _, row := range m.rows {
		if row.Tenant != tenant || row.Device != dev {
			continue
		}
		for _, x := range row.Measurements {
			if x.Time.After(row.StoredAt.Add(10 * time.Minute)) {
				x.Time = row.StoredAt
			}
			k := key{row.Channel, x.Name}
			if have, ok := last[k]; !ok || !x.Time.Before(have.Time) {
				last[k] = storage.LatestValue{Device: dev, Channel: row.Channel, Measurement: x, Position: row.Position}
			}
		}
	}
	for _, v := range last {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b storage.LatestValue) int {
		return cmp.Or(cmp.Compare(a.Channel, b.Channel), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func inWindow(t, since, until time.Time) bool {
	return (since.IsZero() || !t.Before(since)) && (until.IsZero() || t.Before(until))
}

// testModel runs random work on store and model and compares their answers.
func testModel(t *testing.T, open Open) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			w := &work{rig: newRig(t, open), rnd: rand.New(rand.NewPCG(seed, 1)), clock: noon}
			for step := range 80 {
				switch n := w.rnd.IntN(20); {
				case n == 0:
					w.reopen()
				case n <= 2:
					w.seal()
				case n == 3:
					w.pos = device.Position{Epoch: w.pos.Epoch + 1}
				default:
					w.batch()
				}
				if step%8 == 7 {
					w.compare()
				}
			}
			w.reopen()
			w.compare()
		})
	}
}

// work is a random load, few names and times so that everything collides.
type work struct {
	*rig
	model
	rnd   *rand.Rand
	clock time.Time // the stream's; it steps back now and then
}

func (w *work) pick(of ...string) string { return of[w.rnd.IntN(len(of))] }

func (w *work) batch() {
	b := storage.Batch{Stream: telemetry, Epoch: w.pos.Epoch, From: w.pos.Seq, To: w.pos.Seq}
	for range w.rnd.IntN(40) {
		b.To += uint64(1 + w.rnd.IntN(2)) // gaps
		w.clock = w.clock.Add(time.Duration(w.rnd.IntN(400)-40) * time.Second)
		m := message(w.pick("a", "b"), w.pick("", "x"), 0)
		m.Tenant = w.pick("t", "t", "u")
		m.ReceivedAt = w.clock.Add(-time.Duration(w.rnd.IntN(3)) * time.Second)
		if w.rnd.IntN(3) == 0 {
			m.Key, m.Payload = fmt.Sprint("key ", w.rnd.IntN(200)), []byte(w.pick("1", "1", "1", "2"))
		}
		for range w.rnd.IntN(4) {
			m.Measurements = append(m.Measurements, device.Measurement{Name: w.pick("v", "w"), Unit: w.pick("", "m"), Time: w.time(m.ReceivedAt), Value: w.value()})
		}
		one := stored(b.To, m, w.clock)
		one.Last = m.Device == "b" && m.Channel == "x"
		b.Messages = append(b.Messages, one)
		row := device.Stored{Message: *m, Position: device.Position{Epoch: w.pos.Epoch, Seq: b.To}, StoredAt: w.clock}
		if !w.repeats(&row) {
			w.add(row, one.Last)
		}
	}
	w.must(w.st.Write(w.t.Context(), b))
	w.pos.Seq = b.To
}

func (w *work) time(received time.Time) time.Time {
	switch w.rnd.IntN(12) {
	case 0:
		return time.Date(2099, 1, 1, 0, 0, w.rnd.IntN(30), 0, time.UTC)
	case 1:
		return time.Unix(int64(w.rnd.IntN(30)), 0).UTC()
	case 2:
		return received.Add(time.Duration(w.rnd.IntN(1300)-650) * time.Second)
	case 3:
		return received.Add(time.Duration(w.rnd.IntN(1000)) * time.Microsecond)
	}
	return received
}

func (w *work) value() device.Value {
	switch w.rnd.IntN(12) {
	case 0:
		return device.String(w.pick("", "on", "off", "a rather long sentence about the state of a boiler"))
	case 1:
		return device.Bool(w.rnd.IntN(2) == 0)
	case 2:
		return device.Double(w.rnd.NormFloat64())
	case 3:
		return device.Bytes([]byte{byte(w.rnd.Uint32()), 0})
	case 4, 5:
		return device.Int(w.rnd.Int64() - w.rnd.Int64())
	}
	return device.Double(float64(w.rnd.IntN(500)) / 10)
}

// bound is no bound, or a time near what was stored.
func (w *work) bound() time.Time {
	if w.rnd.IntN(2) == 0 || len(w.rows) == 0 {
		return time.Time{}
	}
	return w.rows[w.rnd.IntN(len(w.rows))].ReceivedAt.Add(time.Duration(w.rnd.IntN(3)-1) * time.Second)
}

func (w *work) compare() {
	w.t.Helper()
	for range 8 {
		w.compareMessages()
		q := storage.PointQuery{Tenant: w.pick("t", "u"), Device: w.pick("a", "b", "c"), Channel: w.pick("", "x"), Name: w.pick("v", "w", "no"),
			Since: w.bound(), Until: w.bound(), Limit: 1 + w.rnd.IntN(100)}
		points, err := w.st.Points(w.t.Context(), q)
		w.must(err)
		same(w.t, fmt.Sprintf("%+v", q), append([]storage.Point(nil), points...), append([]storage.Point(nil), w.model.points(q)...))
	}
	w.compareAfter()
	w.compareBuckets()
	for _, tenant := range []string{"t", "u"} {
		got, err := w.st.Latest(w.t.Context(), storage.LatestQuery{Tenant: tenant, Limit: 10})
		w.must(err)
		same(w.t, "latest of "+tenant, got, append(w.latest(tenant, "a"), w.latest(tenant, "b")...))
	}
}

func (w *work) compareBuckets() {
	w.t.Helper()
	for _, step := range []time.Duration{time.Microsecond, 7 * time.Second, time.Minute, 24 * time.Hour, 40_000 * time.Hour} {
		q := storage.BucketQuery{Tenant: w.pick("t", "u"), Device: w.pick("a", "b"), Channel: w.pick("", "x"), Name: w.pick("v", "w", "no"),
			Since: w.bound(), Until: w.bound(), Step: step, Limit: 1 + w.rnd.IntN(50)}
		got, err := w.st.Buckets(w.t.Context(), q)
		w.must(err)
		same(w.t, fmt.Sprintf("%+v", q), append([]storage.Bucket(nil), got...), append([]storage.Bucket(nil), w.model.buckets(q)...))
	}
}

// compareMessages asks for the first pages of a random question.
func (w *work) compareMessages() {
	w.t.Helper()
	q := storage.MessageQuery{Tenant: w.pick("t", "u"), Device: w.pick("a", "b", "c"), Name: w.pick("", "", "v", "w", "no"),
		Since: w.bound(), Until: w.bound(), Limit: 1 + w.rnd.IntN(60)}
	if channel := w.pick("", "x", "any"); channel != "any" {
		q.Channel = &channel
	}
	want := w.messages(q)
	for range 4 {
		page, err := w.st.Messages(w.t.Context(), q)
		w.must(err)
		from := max(0, len(want)-q.Limit)
		same(w.t, fmt.Sprintf("%+v", q), append([]device.Stored(nil), page.Messages...), append([]device.Stored(nil), want[from:]...))
		if (page.Next == "") != (from == 0) {
			w.t.Fatalf("%+v: next is %q, %d messages are left", q, page.Next, from)
		}
		if from == 0 {
			return
		}
		want, q.Cursor = want[:from], page.Next
	}
}
