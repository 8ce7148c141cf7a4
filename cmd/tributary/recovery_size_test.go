package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/normalize"
	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/pipeline/embedded"
)

const (
	recoveryEnv = "TRIBUTARY_TEST_RECOVERY" // how many mebibytes the stream holds, such as 256,1024,4096
	fillEnv     = "TRIBUTARY_TEST_FILL"     // of the child that fills it: DIR:BYTES
)

// TestHowLongAStartTakes fills a stream, kills who filled it, and starts servers
// on what is there: everything is found. The times are for docs/operations.md.
func TestHowLongAStartTakes(t *testing.T) {
	if dir, size, ok := strings.Cut(os.Getenv(fillEnv), ":"); ok {
		fillStream(t, dir, size)
		return
	}
	t.Parallel()
	sizes := "4"
	if text := os.Getenv(recoveryEnv); text != "" {
		sizes = text
	}
	for text := range strings.SplitSeq(sizes, ",") {
		size, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(text+" MiB", func(t *testing.T) { testStart(t, int64(size)<<20) })
	}
}

func testStart(t *testing.T, size int64) {
	data := t.TempDir()
	messages := fillAndKill(t, filepath.Join(data, "nats"), size)
	for _, c := range []struct {
		before string
		cold   bool
		end    func(*server)
	}{
		{"killed, in the page cache", false, (*server).kill},
		{"killed", true, (*server).stop},
		{"stopped cleanly", true, (*server).kill},
	} {
		cold := c.cold && dropCaches() == nil
		began := time.Now()
		s := serve(t, data, "--open", "--stream-keep-bytes", "1TiB")
		took, stream := time.Since(began), s.metric("tributary_recovery_seconds", `part="stream"`)
		t.Logf("%s, page cache dropped: %v: ready after %.2f s, of which the stream %.2f s, %.2f s a GiB",
			c.before, cold, took.Seconds(), stream, stream*(1<<30)/float64(size))
		c.end(s)
		if want := fmt.Sprintf("messages=%d ", messages); !strings.Contains(s.log.String(), want) {
			t.Errorf("%s: there is no %q in\n%s", c.before, want, s.log)
		}
	}
}

// dropCaches makes the next reading one of the disk; only root may.
func dropCaches() error {
	syscall.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// fillAndKill has a child fill the stream in dir, kills it, and answers how many
// messages it had stored.
func fillAndKill(t *testing.T, dir string, size int64) (messages int) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestHowLongAStartTakes$", "-test.timeout=1h")
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%s:%d", fillEnv, dir, size))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if n, err := fmt.Sscanf(lines.Text(), "filled with %d", &messages); n == 1 && err == nil {
			return messages
		}
	}
	t.Fatalf("the child did not fill the stream: %s", &said)
	return 0
}

// fillStream stores messages of 1,000 devices until the stream is of a size, and
// waits to be killed.
func fillStream(t *testing.T, dir, text string) {
	size, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	server, err := embedded.Start(embedded.Options{Dir: dir, Durability: embedded.Relaxed})
	if err != nil {
		t.Fatal(err)
	}
	belt, err := pipeline.Open(t.Context(), pipeline.Options{Server: server, Durability: pipeline.Relaxed, AckTimeout: time.Hour, BusyAfter: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	acks, sent := make(chan error, 20_000), 0
	for held := uint64(0); held < size; {
		for range 10_000 {
			m := &device.Message{Tenant: device.DefaultTenant, Device: fmt.Sprintf("device-%d", sent%1000), Channel: "room", Protocol: device.MQTT, QoS: 1,
				ReceivedAt: time.Now(), Payload: fmt.Appendf(nil, `{"temperature":%d.5,"humidity":%d,"note":%q}`, sent%40, sent%100, strings.Repeat("x", 150))}
			if err := normalize.Message(m); err != nil {
				t.Fatal(err)
			}
			if err := belt.Submit(m, func(err error) { acks <- err }); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		for range 10_000 {
			if err := <-acks; err != nil {
				t.Fatal(err)
			}
		}
		stats, err := belt.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held = stats[0].Bytes
	}
	fmt.Printf("filled with %d\n", sent)
	<-context.Background().Done()
}
