package main

import (
	"context"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

// How the sessions are watched: how often they are counted, from how many new ones on
// something is done, and how long nothing is done afterwards.
const (
	surgeLook  = 5 * time.Second
	surgeLeast = 1000
	surgePause = time.Minute
)

// surge finds the end of a time in which many sessions came in. Letting them in takes
// several times the memory that keeping them does. The runtime notices within two
// minutes, and returns it over some more: a server that a whole fleet came back to
// would look, to whoever has to share the machine with it, twice its size until then.
type surge struct {
	before int // sessions there were when the last one was over, or fewer since
	last   int // at the last look
	quiet  time.Time
}

// over reports whether sessions came in, a fifth of all that are open at least, and no
// more do.
func (s *surge) over(open int, now time.Time) bool {
	growing := open > s.last
	s.last = open
	s.before = min(s.before, open)
	if growing || open-s.before < max(surgeLeast, open/5) || now.Before(s.quiet) {
		return false
	}
	s.before, s.quiet = open, now.Add(surgePause)
	return true
}

// headroomBytes is as much as a server's heap is that has not much to do.
const headroomBytes = 32 << 20

// headroom is a block that nobody touches. The collector begins when the heap is twice
// what it was left with, so one that is small and used much is collected all the time.
// With the block it may grow by as much more before, and the block itself takes no memory
// of the system's. Whoever has told the runtime what it may take is left alone.
func headroom() []byte {
	if os.Getenv("GOGC") != "" || debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return nil
	}
	return make([]byte, headroomBytes)
}

// giveBackMemory keeps the headroom, and returns to the system what letting many sessions
// in has left, until ctx ends.
func giveBackMemory(ctx context.Context, open func() int) error {
	block := headroom()
	defer runtime.KeepAlive(block)
	looks := time.NewTicker(surgeLook)
	defer looks.Stop()
	var s surge
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-looks.C:
			if s.over(open(), now) {
				debug.FreeOSMemory()
			}
		}
	}
}
