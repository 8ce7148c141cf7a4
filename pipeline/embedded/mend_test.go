package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/internal/peer"
	"github.com/tributary-iot/tributary/pipeline/embedded"
)

// fileLimit is above what the test program writes for itself, and below what makes
// up a padded message.
const fileLimit = 1 << 20

func padded(format string, args ...any) []byte {
	return append(fmt.Appendf(nil, format, args...), make([]byte, fileLimit)...)
}

// limitFiles lets no file of this process grow beyond fileLimit: writes
// fail then as they do on a full disk. It answers what lifts the limit.
func limitFiles(t *testing.T) (lift func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	set := func(l syscall.Rlimit) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
			t.Fatal(err)
		}
	}
	lift = func() { set(before) }
	t.Cleanup(lift)
	set(syscall.Rlimit{Cur: fileLimit, Max: before.Max})
	return lift
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}

// TestAFailedWriteIsSeenAndMended: nothing is acknowledged while the disk
// refuses data, what was acknowledged before is there after, and the same
// connection goes on.
func TestAFailedWriteIsSeenAndMended(t *testing.T) {
	s := start(t, t.TempDir(), embedded.Strict)
	js := connectPatient(t, s)
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, AllowAtomicPublish: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if _, err := js.Publish(t.Context(), "s", padded("acked %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	lift := limitFiles(t)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if ack, err := js.Publish(ctx, "s", []byte("lost"), jetstream.WithMsgID("again")); err == nil {
		t.Fatalf("a message that could not be written was acknowledged: %+v", ack)
	}
	if err := s.Healthy(); err == nil {
		t.Fatal("a server that cannot write says it is healthy")
	} else if !strings.Contains(err.Error(), "write error") && !strings.Contains(err.Error(), "file too large") {
		t.Errorf("it says %q", err)
	}
	eventually(t, "the disk was tried in vain", func() bool {
		err := s.Healthy()
		return err != nil && strings.Contains(err.Error(), "restart:")
	})
	if n := s.Restarts(); n != 0 {
		t.Errorf("restarted %d times on a disk that takes nothing", n)
	}
	lift()
	eventually(t, "the server is healthy", func() bool { return s.Healthy() == nil })
	if n := s.Restarts(); n != 1 {
		t.Errorf("restarted %d times", n)
	}
	eventually(t, "the same connection publishes again", func() bool {
		_, err := js.Publish(t.Context(), "s", []byte("lost"), jetstream.WithMsgID("again"))
		return err == nil
	})
	info, err := stream.Info(t.Context())
	if err != nil || info.State.Msgs != 5 {
		t.Fatalf("the stream holds %+v, %v; expected 5 messages", info, err)
	}
	if err := s.Healthy(); err != nil {
		t.Error(err)
	}
}

// connectPatient is connect for a server that goes away for a while.
func connectPatient(t *testing.T, s *embedded.Server) jetstream.JetStream {
	t.Helper()
	user, password := s.Credentials()
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.UserInfo(user, password), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// TestShutdownDuringAFault ends, and the directory is free.
func TestShutdownDuringAFault(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, embedded.Strict)
	js := connectPatient(t, s)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s", padded("acked")); err != nil {
		t.Fatal(err)
	}
	lift := limitFiles(t)
	if err := js.Conn().Publish("s", []byte("lost")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the fault is seen", func() bool { return s.Healthy() != nil })
	stop(t, s)
	lift()
	again := start(t, dir, embedded.Strict)
	found, err := connect(t, again).Stream(t.Context(), "S")
	if err != nil || found.CachedInfo().State.Msgs != 1 {
		t.Fatalf("found %+v, %v", found, err)
	}
}

// TestAFullStoreIsToldAndNotRestarted: the hard stop is no fault of the disk.
func TestAFullStoreIsToldAndNotRestarted(t *testing.T) {
	s, err := embedded.Start(embedded.Options{Dir: t.TempDir(), MaxStore: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	js := connect(t, s)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = js.Publish(t.Context(), "s", make([]byte, 4<<10))
	}
	var refusal *jetstream.APIError
	if !errors.As(err, &refusal) {
		t.Fatalf("not refused but %v", err)
	}
	if err := s.Healthy(); err == nil || !strings.Contains(err.Error(), "of the 65536 they may") {
		t.Errorf("says %v", err)
	}
	if n := s.Restarts(); n != 0 {
		t.Errorf("restarted %d times", n)
	}
}

// TestDisk: the reserve is what was asked for, or a share of the disk, and
// streams whose bounds are larger than the disk can be made.
func TestDisk(t *testing.T) {
	for asked, want := range map[int64]int64{0: 64 << 20, 12345: 12345} {
		s, err := embedded.Start(embedded.Options{Dir: filepath.Join(peer.SmallDisk(t, 16), "nats"), Reserve: asked})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stop(t, s) })
		free, reserve, err := s.Disk()
		if err != nil || reserve != want || free < 8<<20 || free > 16<<20 {
			t.Errorf("%d free, %d reserved, %v", free, reserve, err)
		}
		if _, err := connect(t, s).CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, MaxBytes: 1 << 30}); err != nil {
			t.Error(err)
		}
	}
}

// TestAStuckServerIsTold: whoever asks is answered, and not by the one that is
// stuck; after a while the process is told to end.
func TestAStuckServerIsTold(t *testing.T) {
	release := make(chan struct{})
	s, err := embedded.StartStuck(embedded.Options{Dir: t.TempDir()}, release, 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	if err := s.Healthy(); err == nil || !strings.Contains(err.Error(), "does not say") {
		t.Errorf("a server that answers nobody: %v", err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "started anew") {
		t.Errorf("Run ended with %v", err)
	}
	if n := s.Restarts(); n != 0 {
		t.Errorf("it was restarted %d times", n)
	}
	close(release)
	eventually(t, "it is well again", func() bool { return s.Healthy() == nil })
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	well := start(t, t.TempDir(), embedded.Strict)
	if err := well.Run(ended); err != nil {
		t.Errorf("Run of a server that is well ended with %v", err)
	}
}
