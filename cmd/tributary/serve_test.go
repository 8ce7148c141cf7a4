package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestCPUProfile: what a server was told to profile is there when it has stopped, and a
// file that cannot be made is said before anything is served.
func TestCPUProfile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cpu.pprof")
	s := serve(t, t.TempDir(), "--open", "--cpu-profile", file)
	s.stop()
	profile, err := os.ReadFile(file)
	if err != nil || !bytes.HasPrefix(profile, []byte{0x1f, 0x8b}) {
		t.Errorf("the profile is %d bytes, and no gzip: %v", len(profile), err)
	}
	out, err := program(t.Context(), "serve", "--open", "--data", t.TempDir(), "--cpu-profile", filepath.Join(file, "below")).CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("--cpu-profile")) {
		t.Errorf("a file that cannot be made: %v, %s", err, out)
	}
}
