package embedded_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/pipeline/embedded"
)

// TestABlockThatAPowerCutTore: a stream that does not sync loses a sector in the
// middle of a block, and its index, written later, knows nothing of that. The
// server starts, with what is before the hole.
func TestABlockThatAPowerCutTore(t *testing.T) {
	dir, cfg := t.TempDir(), jetstream.StreamConfig{Name: "LIST", Subjects: []string{"list.>"}, MaxMsgsPerSubject: 1, PersistMode: jetstream.AsyncPersistMode}
	s := start(t, dir, embedded.Strict)
	js := connect(t, s)
	_, err := js.CreateStream(t.Context(), cfg)
	must(t, err)
	for i := range 60 {
		_, err := js.Publish(t.Context(), fmt.Sprint("list.", i%40), []byte(strings.Repeat("x", 60)))
		must(t, err)
	}
	stop(t, s)
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "$G", "streams", "LIST", "msgs", "*.blk"))
	must(t, err)
	for _, block := range blocks {
		f, err := os.OpenFile(block, os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteAt(make([]byte, 512), 512)
		must(t, err)
		must(t, f.Close())
	}
	s = start(t, dir, embedded.Strict)
	must(t, s.Healthy())
	stream, err := connect(t, s).Stream(t.Context(), "LIST")
	must(t, err)
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	must(t, err)
	state := info.State
	if state.Msgs == 0 || state.Msgs >= 40 || int(state.NumSubjects) != len(state.Subjects) || state.Msgs != state.NumSubjects {
		t.Errorf("the stream counts %d messages of %d subjects, and lists %d", state.Msgs, state.NumSubjects, len(state.Subjects))
	}
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		if _, err := stream.GetMsg(t.Context(), seq); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			t.Errorf("message %d: %v", seq, err)
		}
	}
}
