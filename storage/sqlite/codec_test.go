package sqlite_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage/sqlite"
)

// series makes 240 points ten seconds apart, with some jitter.
func series(value func(i int) device.Value) (out []sqlite.Sample) {
	rnd := rand.New(rand.NewPCG(3, 4))
	at := int64(1_773_489_600_000_000)
	for i := range 240 {
		at += 10_000_000 + 1000*rnd.Int64N(500)
		out = append(out, sqlite.Sample{Micros: at, Value: value(i)})
	}
	return out
}

func chunkCases() map[string]struct {
	points []sqlite.Sample
	most   float64 // bytes a point
} {
	rnd := rand.New(rand.NewPCG(5, 6))
	type c = struct {
		points []sqlite.Sample
		most   float64
	}
	return map[string]c{
		"tenths":        {series(func(i int) device.Value { return device.Double(float64(200+rnd.IntN(40)) / 10) }), 3.5},
		"counter":       {series(func(i int) device.Value { return device.Int(int64(3 * i)) }), 3.5},
		"noise":         {series(func(i int) device.Value { return device.Double(rnd.NormFloat64()) }), 10.1},
		"flag":          {series(func(i int) device.Value { return device.Bool(i%5 == 0) }), 2.5},
		"words":         {series(func(i int) device.Value { return device.String([]string{"idle", "heating"}[rnd.IntN(2)]) }), 3},
		"constant":      {series(func(i int) device.Value { return device.Double(math.Pi) }), 3.2},
		"wild integers": {series(func(i int) device.Value { return device.Int(int64(rnd.Uint64())) }), 12.5},
		"odd doubles": {series(func(i int) device.Value {
			return device.Double([]float64{math.NaN(), math.Inf(1), math.Copysign(0, -1), 5e-324, math.MaxFloat64, 0.1}[i%6])
		}), 11},
		"bytes": {series(func(i int) device.Value { return device.Bytes([]byte{byte(i), 0, 0xff}) }), 6},
		"one":   {[]sqlite.Sample{{Micros: math.MinInt64, Value: device.String("")}}, 32},
		"far apart": {[]sqlite.Sample{{Micros: math.MinInt64, Value: device.Int(math.MinInt64)}, {Micros: 0, Value: device.Int(math.MaxInt64)},
			{Micros: math.MaxInt64, Value: device.Int(-1)}}, 32},
	}
}

func TestChunkThereAndBack(t *testing.T) {
	for name, c := range chunkCases() {
		b, err := sqlite.EncodeChunk(c.points)
		if err != nil {
			t.Fatal(err)
		}
		back, err := sqlite.DecodeChunk(b)
		if err != nil || !reflect.DeepEqual(back, c.points) {
			t.Errorf("%s: came back (%v) as\n%.300s, was\n%.300s", name, err, fmt.Sprint(back), fmt.Sprint(c.points))
		}
		if each := float64(len(b)) / float64(len(c.points)); each > c.most {
			t.Errorf("%s: %.1f bytes a point, want at most %.1f", name, each, c.most)
		}
	}
}

func TestDamagedChunkIsAnError(t *testing.T) {
	for name, c := range chunkCases() {
		b, err := sqlite.EncodeChunk(c.points)
		if err != nil {
			t.Fatal(err)
		}
		for n := range b {
			if _, err := sqlite.DecodeChunk(b[:n]); err == nil {
				t.Errorf("%s: the first %d of %d bytes were read", name, n, len(b))
			}
		}
		if _, err := sqlite.DecodeChunk(append(b, 0)); err == nil {
			t.Errorf("%s: a byte too many was read", name)
		}
	}
}

func records() []sqlite.Record {
	out := make([]sqlite.Record, 300)
	for i := range out {
		out[i] = sqlite.Record{Pos: device.Position{Epoch: uint64(1 + i/100), Seq: uint64(i%100*3 + 1)}, Stored: int64(i) * 1e6, Recv: int64(i)*1e6 - 77,
			Body: fmt.Appendf(nil, `{"temperature":%d}`, i%40)}
	}
	return out
}

func TestBlockThereAndBack(t *testing.T) {
	for _, hot := range []bool{true, false} {
		for _, want := range [][]sqlite.Record{{}, records()[:1], records()} {
			b, err := sqlite.EncodeBlock(hot, want)
			if err != nil {
				t.Fatal(err)
			}
			back, err := sqlite.DecodeBlock(b)
			if err != nil || !reflect.DeepEqual(back, want) {
				t.Fatalf("hot %v: %d records came back as %d (%v)", hot, len(want), len(back), err)
			}
			for n := range b {
				if _, err := sqlite.DecodeBlock(b[:n]); err == nil {
					t.Fatalf("hot %v: the first %d of %d bytes were read", hot, n, len(b))
				}
			}
		}
	}
}

func FuzzDecodeChunk(f *testing.F) {
	for _, c := range chunkCases() {
		b, err := sqlite.EncodeChunk(c.points[:min(8, len(c.points))])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ps, err := sqlite.DecodeChunk(b)
		if err != nil {
			return
		}
		again, err := sqlite.EncodeChunk(ps)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := sqlite.DecodeChunk(again); err != nil || !reflect.DeepEqual(back, ps) {
			t.Fatalf("%v came back as %v (%v)", ps, back, err)
		}
	})
}

func FuzzDecodeBlock(f *testing.F) {
	for _, hot := range []bool{true, false} {
		b, err := sqlite.EncodeBlock(hot, records()[:5])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0, 1, 2, 2, 2, 2, 1, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		rs, err := sqlite.DecodeBlock(b)
		if err != nil {
			return
		}
		again, err := sqlite.EncodeBlock(false, rs)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := sqlite.DecodeBlock(again); err != nil || len(back) != len(rs) {
			t.Fatalf("%d records came back as %d (%v)", len(rs), len(back), err)
		}
	})
}
