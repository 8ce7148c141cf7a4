package main

import (
	"runtime/debug"
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

// TestHeadroom: none is taken of what the runtime was told not to pass.
func TestHeadroom(t *testing.T) {
	t.Setenv("GOGC", "")
	if n := len(headroom()); n != headroomBytes {
		t.Errorf("the headroom is %d bytes, want %d", n, headroomBytes)
	}
	t.Setenv("GOGC", "50")
	if headroom() != nil {
		t.Error("there is headroom though GOGC is set")
	}
	t.Setenv("GOGC", "")
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(1 << 40))
	if headroom() != nil {
		t.Error("there is headroom though the memory is limited")
	}
}
