package embedded_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/internal/crashlab/faultfs"
	"github.com/tributary-iot/tributary/internal/peer"
	"github.com/tributary-iot/tributary/pipeline/embedded"
)

// TestAFailedSyncAndADeadProcess: what a failed fsync left in the memory of the
// system is on the disk before anything is stored behind it, also when the
// process that saw it fail is gone. Otherwise the power cut that follows would
// take the hole, and all that was acknowledged behind it.
func TestAFailedSyncAndADeadProcess(t *testing.T) {
	peer.FUSE(t)
	disk, dir := faultfs.New(faultfs.JournalNames), t.TempDir()
	mount, err := disk.Mount(dir)
	must(t, err)
	t.Cleanup(func() { mount.Detach() })
	data := filepath.Join(dir, "nats")

	s := start(t, data, embedded.Strict)
	js := connect(t, s)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "DATA", Subjects: []string{"data.>"}})
	must(t, err)
	acked := store(t, js, 60)
	stop(t, s)

	// A page of which the fsync failed, before the process died: it is in the
	// block for whoever reads it, and the disk does not have it.
	blocks, err := filepath.Glob(filepath.Join(data, "jetstream", "$G", "streams", "DATA", "msgs", "*.blk"))
	must(t, err)
	last := blocks[len(blocks)-1]
	raw, err := os.ReadFile(last)
	must(t, err)
	lose(t, disk, last, raw)

	s, err = embedded.Start(embedded.Options{Dir: data, Durability: embedded.Strict, Unclean: true})
	must(t, err)
	acked += store(t, connect(t, s), 20)
	stop(t, s)
	must(t, mount.Unmount())
	disk.Cut(nil)
	mount, err = disk.Mount(dir)
	must(t, err)

	s, err = embedded.Start(embedded.Options{Dir: data, Durability: embedded.Strict, Unclean: true})
	must(t, err)
	defer stop(t, s)
	stream, err := connect(t, s).Stream(t.Context(), "DATA")
	must(t, err)
	if state := stream.CachedInfo().State; int(state.Msgs) != acked {
		t.Errorf("%d messages were acknowledged, and the stream holds %d", acked, state.Msgs)
	}
}

// store publishes messages that are acknowledged.
func store(t *testing.T, js jetstream.JetStream, n int) int {
	t.Helper()
	for i := range n {
		_, err := js.Publish(t.Context(), fmt.Sprint("data.", i), make([]byte, 300))
		must(t, err)
	}
	return n
}

// lose makes the disk forget one page of a file that still reads well.
func lose(t *testing.T, disk *faultfs.Disk, path string, raw []byte) {
	t.Helper()
	const page = 4096
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(make([]byte, page), page)
	must(t, err)
	must(t, f.Sync())
	disk.Inject(faultfs.Fault{Sync: true, Errno: syscall.EIO})
	_, err = f.WriteAt(raw[page:2*page], page)
	must(t, err)
	if f.Sync() == nil {
		t.Fatal("the fsync was to fail")
	}
	disk.Heal()
	must(t, f.Close())
}
