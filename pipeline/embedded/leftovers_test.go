package embedded_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/pipeline/embedded"
)

// TestLeftoversOfADeadProcess: a process that dies while it tries the disk
// leaves files behind that the next one must not take for anything.
func TestLeftoversOfADeadProcess(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, embedded.Strict)
	_, err := connect(t, s).CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	must(t, err)
	stop(t, s)
	left := []string{"trial-1", "jetstream/_test_1", "jetstream/$G/streams/S/_test_2"}
	for _, name := range left {
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	s = start(t, dir, embedded.Strict)
	if err := s.Healthy(); err != nil {
		t.Errorf("it is not healthy: %v", err)
	}
	for _, name := range left {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
}
