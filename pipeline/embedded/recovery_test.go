package embedded_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/pipeline/embedded"
)

const (
	// recoverEnv makes the test binary a server that fills a directory until it is killed.
	recoverEnv = "TRIBUTARY_TEST_RECOVER_DIR"
	// recoverMiB is how much it stores: 8 unless said, 1024 for the figure in docs/durability.md.
	recoverMiB = "TRIBUTARY_RECOVER_MIB"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(recoverEnv); dir != "" {
		if err := fillUntilKilled(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func mebibytes() int {
	n, err := strconv.Atoi(os.Getenv(recoverMiB))
	if err != nil || n < 1 {
		return 8
	}
	return n
}

// fillUntilKilled stores messages of 250 bytes for a thousand devices, says how
// many, and waits for its end.
func fillUntilKilled(dir string) error {
	s, err := embedded.Start(embedded.Options{Dir: dir, Durability: embedded.Relaxed, MaxStore: 1 << 40})
	if err != nil {
		return err
	}
	user, password := s.Credentials()
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.UserInfo(user, password))
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4000))
	if err != nil {
		return err
	}
	if _, err := js.CreateStream(context.Background(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}}); err != nil {
		return err
	}
	payload := bytes.Repeat([]byte("x"), 250)
	count := mebibytes() << 20 / len(payload)
	for i := range count {
		if _, err := js.PublishAsync(fmt.Sprint("s.", i%1000), payload, jetstream.WithStallWait(time.Minute)); err != nil {
			return err
		}
	}
	<-js.PublishAsyncComplete()
	fmt.Println("stored", count)
	select {}
}

// TestRecoveryIsTold kills a server that holds something: the next one has all
// of it, and says so, and how long it took; one that was stopped says nothing.
func TestRecoveryIsTold(t *testing.T) {
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), recoverEnv+"="+dir)
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	var count int
	_, err = fmt.Fscanf(out, "stored %d\n", &count)
	child.Process.Kill()
	child.Wait()
	must(t, err)
	for _, want := range []bool{true, false} {
		var log bytes.Buffer
		began := time.Now()
		s, err := embedded.Start(embedded.Options{Dir: dir, MaxStore: 1 << 40, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		must(t, err)
		took := time.Since(began)
		stream, err := connect(t, s).Stream(t.Context(), "S")
		must(t, err)
		if state := stream.CachedInfo().State; state.Msgs != uint64(count) {
			t.Errorf("%d of %d messages are there", state.Msgs, count)
		}
		stop(t, s)
		told := strings.Contains(log.String(), fmt.Sprintf("the streams were recovered\" messages=%d bytes=", count))
		if told != want {
			t.Errorf("recovery told: %v, want %v; the log:\n%s", told, want, &log)
		}
		t.Logf("start after a stop that was in order: %v: %d MiB in %s", !want, mebibytes(), took.Round(time.Millisecond))
	}
}
