package main

import (
	"testing"
	"time"
)

// TestSurge: memory is given back once after many sessions came in, when no more come,
// and not again and again while they come and go.
func TestSurge(t *testing.T) {
	var s surge
	now := time.Now()
	for i, look := range []struct {
		open  int
		after time.Duration
		over  bool
	}{
		{0, surgeLook, false}, {900, surgeLook, false}, {900, surgeLook, false}, // too few
		{5000, surgeLook, false}, {9000, surgeLook, false}, {9000, surgeLook, true}, {9000, surgePause, false}, // a fleet
		{9900, surgeLook, false}, {9900, surgeLook, false}, // a tenth more
		{12_000, surgeLook, false}, {11_999, surgeLook, true}, // with those before it is a fifth
		{100, surgeLook, false}, {12_000, surgeLook, false}, {12_000, surgeLook, false}, // gone and back, too soon
		{12_000, surgePause, true}, {12_000, surgePause, false},
	} {
		now = now.Add(look.after)
		if over := s.over(look.open, now); over != look.over {
			t.Errorf("look %d, %d sessions: %v, want %v", i+1, look.open, over, look.over)
		}
	}
}
