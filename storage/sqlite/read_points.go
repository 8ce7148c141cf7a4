package sqlite

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// Points answers the values of one series, oldest first, the newest q.Limit.
func (s *Store) Points(ctx context.Context, q storage.PointQuery) (out []storage.Point, err error) {
	if err := checkLimit(q.Limit, 100_000); err != nil {
		return nil, err
	}
	of := seriesName{device.ID{Tenant: q.Tenant, Device: q.Device}, seriesKey{q.Channel, q.Name}}
	since, until := window(q.Since, q.Until)
	err = s.sweepPoints(ctx, "points", of, since, until, func(p point, texts []string) bool {
		out = append(out, toPoint(p, texts))
		return len(out) < q.Limit
	})
	if err != nil {
		return nil, err
	}
	slices.Reverse(out)
	return out, nil
}

func toPoint(p point, texts []string) storage.Point {
	return storage.Point{Time: fromMicros(p.time), Value: makeValue(p, texts)}
}

// Buckets answers the same in buckets, oldest first, the newest q.Limit.
func (s *Store) Buckets(ctx context.Context, q storage.BucketQuery) (out []storage.Bucket, err error) {
	if err := checkLimit(q.Limit, 10_000); err != nil {
		return nil, err
	}
	step := q.Step.Microseconds()
	if step < 1 || q.Step%time.Microsecond != 0 {
		return nil, device.Errorf(device.Invalid, "step is %s: it must be a positive number of microseconds", q.Step)
	}
	of := seriesName{device.ID{Tenant: q.Tenant, Device: q.Device}, seriesKey{q.Channel, q.Name}}
	since, until := window(q.Since, q.Until)
	f := folder{step: step, limit: q.Limit}
	if err := s.sweepPoints(ctx, "buckets", of, since, until, f.take); err != nil {
		return nil, err
	}
	f.flush()
	slices.Reverse(f.out)
	return f.out, nil
}

// folder folds points that come newest first into buckets.
type folder struct {
	step  int64
	limit int
	out   []storage.Bucket

	open        bool
	start       int64 // of the bucket being filled
	bucket      storage.Bucket
	first, last point // in it, so far
	texts       [2][]string
}

func (f *folder) take(p point, texts []string) bool {
	if start := floorTo(p.time, f.step); !f.open || start != f.start {
		f.flush()
		if len(f.out) == f.limit {
			return false
		}
		f.open, f.start = true, start
		f.bucket = storage.Bucket{Start: fromMicros(start)}
		f.last, f.texts[1] = p, texts
	}
	f.first, f.texts[0] = p, texts
	f.bucket.Count++
	if x, ok := number(p); ok {
		f.addNumber(x)
	}
	return true
}

func (f *folder) addNumber(x float64) {
	b := &f.bucket
	if b.Numbers == 0 {
		b.Min, b.Max = x, x
	}
	b.Numbers, b.Min, b.Max, b.Sum = b.Numbers+1, min(b.Min, x), max(b.Max, x), b.Sum+x
}

func (f *folder) flush() {
	if !f.open {
		return
	}
	f.bucket.First, f.bucket.Last = toPoint(f.first, f.texts[0]), toPoint(f.last, f.texts[1])
	f.out, f.open = append(f.out, f.bucket), false
}

// number is p as a double; not ok for other kinds, and for NaN, which would
// make everything it is added to NaN.
func number(p point) (x float64, ok bool) {
	switch p.kind {
	case device.KindDouble:
		x = math.Float64frombits(p.bits)
		return x, !math.IsNaN(x)
	case device.KindInt:
		return float64(int64(p.bits)), true
	}
	return 0, false
}

// floorTo is the highest multiple of step that is not above t.
func floorTo(t, step int64) int64 {
	rest := t % step
	if rest < 0 {
		rest += step
	}
	return t - rest
}
