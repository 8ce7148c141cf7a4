package headroom

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestPercent(t *testing.T) {
	for _, c := range []struct {
		live, made uint64
		want       int
	}{
		{0, 0, 100},
		{40 << 20, 1 << 20, 100},   // little to do
		{40 << 20, 80 << 20, 100},  // as much as is live: Go's own measure
		{40 << 20, 200 << 20, 250}, // half of it
		{40 << 20, 4 << 30, 300},   // in steps: 128 MiB would be 320
		{1 << 10, 100 << 20, 1250}, // not more than 4 MiB's worth
		{2 << 30, 10 << 30, 100},   // a big heap has room enough
		{^uint64(0), ^uint64(0), 100},
	} {
		if got := percent(c.live, c.made); got != c.want {
			t.Errorf("live %d, made %d: %d, want %d", c.live, c.made, got, c.want)
		}
	}
}

// gcPercent is what the collector was told.
func gcPercent() int {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return int(s[0].Value.Uint64())
}

var sink []byte

// TestRun: under load the collector is told to wait, without load what is usual, and
// nothing when somebody set GOGC.
func TestRun(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(usual))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan struct{})
	go func() { defer close(done); Run(ctx) }()
	deadline := time.Now().Add(time.Minute)
	for gcPercent() == usual {
		sink = make([]byte, 1<<20)
		if time.Now().After(deadline) {
			t.Fatal("the collector was never told to wait")
		}
	}
	for gcPercent() != usual {
		if time.Now().After(deadline) {
			t.Fatal("the collector was not told that the load is gone")
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	<-done

	t.Setenv("GOGC", "50")
	Run(t.Context()) // returns at once
}
