// Package headroom lets garbage lie while there is much to do, and has it collected
// as ever when there is little: a server under load lives on a small heap that fills
// within a tenth of a second, and Go would spend its time collecting it.
package headroom

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	most   = 128 << 20       // bytes of garbage that may lie around
	usual  = 100             // GOGC: garbage may be as much as what is live
	look   = time.Second     // how often the garbage collector is told
	pieces = uint64(2)       // garbage of a look may lie for one of so many parts of it
	least  = uint64(4 << 20) // live bytes that are assumed: Go's own least heap
)

// Run tells the garbage collector how much garbage may lie around, until ctx ends:
// what half a second makes, at most 128 MiB, and never less than Go's own measure.
// Whoever sets GOGC has decided, and nothing is told; GOMEMLIMIT holds in any case,
// the collector sees to it.
func Run(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	defer debug.SetGCPercent(usual)
	tick := time.NewTicker(look)
	defer tick.Stop()
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	told := usual
	metrics.Read(s)
	for before := s[0].Value.Uint64(); ; before = s[0].Value.Uint64() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		metrics.Read(s)
		if p := percent(s[1].Value.Uint64(), s[0].Value.Uint64()-before); p != told {
			told = p
			debug.SetGCPercent(p)
		}
	}
}

// percent is GOGC where so many bytes are live and so many were made in a look.
func percent(live, made uint64) int {
	room := min(made/pieces, most)
	p := int(100 * room / max(live, least))
	return max(p-p%25, usual) // in steps: telling stops the world for a moment
}
