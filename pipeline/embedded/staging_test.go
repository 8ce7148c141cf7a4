package embedded_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/tributary-iot/tributary/pipeline/embedded"
)

// batchesOf is where a stream's batches are staged.
func batchesOf(dir, stream string) string {
	return filepath.Join(dir, "jetstream", "$G", "streams", stream, "batches")
}

func startStaging(t *testing.T, dir, staging string) (*embedded.Server, jetstream.JetStream) {
	t.Helper()
	s, err := embedded.Start(embedded.Options{Dir: dir, Staging: staging})
	must(t, err)
	t.Cleanup(func() { stop(t, s) })
	js := connect(t, s)
	_, err = js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, AllowAtomicPublish: true})
	must(t, err)
	_, err = js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "PLAIN", Subjects: []string{"plain"}})
	must(t, err)
	must(t, s.Stage())
	return s, js
}

// half stages the first message of a batch, and does not commit it.
func half(t *testing.T, js jetstream.JetStream, id string) {
	t.Helper()
	m := &nats.Msg{Subject: "s", Data: []byte("one"), Header: nats.Header{jetstreamext.BatchIDHeader: {id}, jetstreamext.BatchSeqHeader: {"1"}}}
	_, err := js.Conn().RequestMsgWithContext(t.Context(), m)
	must(t, err)
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// TestBatchesAreStagedInMemory: from the first batch of a new stream on, also after
// a restart, and nothing stays when the server has stopped.
func TestBatchesAreStagedInMemory(t *testing.T) {
	dir, memory := t.TempDir(), t.TempDir()
	for _, id := range []string{"first", "second"} {
		s, js := startStaging(t, dir, memory)
		half(t, js, id)
		places := names(t, memory)
		if len(places) != 1 || !strings.HasPrefix(places[0], "tributary-") {
			t.Fatalf("the memory holds %q", places)
		}
		if staged := names(t, filepath.Join(memory, places[0], "S")); len(staged) != 1 {
			t.Errorf("%q is staged", staged)
		}
		if _, err := os.Lstat(batchesOf(dir, "PLAIN")); err == nil {
			t.Error("a stream without batches has a place for them")
		}
		js.Conn().Close()
		stop(t, s)
		if left := names(t, memory); len(left) != 0 {
			t.Errorf("it stopped and left %q", left)
		}
		if _, err := os.Lstat(batchesOf(dir, "S")); err == nil {
			t.Error("it stopped and left a link to nowhere")
		}
	}
}

// TestThePlaceOfADeadServerIsRemoved, also when its machine went down with it and
// only the link is left.
func TestThePlaceOfADeadServerIsRemoved(t *testing.T) {
	for _, there := range []bool{true, false} {
		dir, memory := t.TempDir(), t.TempDir()
		s, js := startStaging(t, dir, memory)
		js.Conn().Close()
		stop(t, s)
		place := filepath.Join(memory, "tributary-dead", "S")
		if there {
			must(t, os.MkdirAll(place, 0o700))
		}
		must(t, os.Symlink(place, batchesOf(dir, "S")))
		_, js = startStaging(t, dir, memory)
		half(t, js, "batch")
		if left := names(t, memory); len(left) != 1 || left[0] == "tributary-dead" {
			t.Errorf("the memory holds %q", left)
		}
	}
}

// TestStagingWhereItIsSaid: a relative directory is one of this process, and one that
// cannot be used is refused.
func TestStagingWhereItIsSaid(t *testing.T) {
	t.Chdir(t.TempDir())
	must(t, os.Mkdir("memory", 0o700))
	_, js := startStaging(t, t.TempDir(), "memory")
	half(t, js, "batch")
	if places := names(t, "memory"); len(places) != 1 || len(names(t, filepath.Join("memory", places[0], "S"))) != 1 {
		t.Errorf("the directory holds %q", places)
	}
	dir := t.TempDir()
	if _, err := embedded.Start(embedded.Options{Dir: dir, Staging: "nowhere"}); err == nil || !strings.Contains(err.Error(), "stage batches in nowhere") {
		t.Errorf("a directory that is not there: %v", err)
	}
	startStaging(t, dir, "memory") // it was let go
}

// TestStagingOff leaves the batches beside their stream.
func TestStagingOff(t *testing.T) {
	dir := t.TempDir()
	_, js := startStaging(t, dir, embedded.StagingOff)
	half(t, js, "batch")
	info, err := os.Lstat(batchesOf(dir, "S"))
	must(t, err)
	if !info.IsDir() {
		t.Errorf("the batches are %s", info.Mode())
	}
}
