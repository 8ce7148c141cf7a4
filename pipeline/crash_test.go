package pipeline

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// crashDir names the directory to a child process of TestKilledUnderLoad and
// TestTopicsKilledUnderLoad, which tell it what to load by a variable beside it.
const crashDir = "TRIBUTARY_TEST_CRASH_DIR"

// TestCrashChild is the child: it submits until it is killed and prints what
// was acknowledged. Run by itself it does nothing.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		return
	}
	b := inside(t, dir, Options{Durability: Strict})
	run := os.Getenv(crashDir + "_RUN")
	publish := func(name, payload string, done func(error)) error {
		return b.Submit(&device.Message{Tenant: "default", Device: name, Protocol: device.MQTT, Payload: []byte(payload)}, done)
	}
	if os.Getenv(crashDir+"_LOAD") == "topics" {
		publish = func(name, payload string, done func(error)) error {
			return b.Topics().Append(by(name, name, payload), done)
		}
	}
	slots := make(chan struct{}, 2000)
	for i := 0; ; i++ {
		slots <- struct{}{}
		name, payload := fmt.Sprintf("run%s-%d", run, i%10), fmt.Sprint(i)
		if err := publish(name, payload, func(err error) {
			if err == nil {
				fmt.Printf("ACK %s %s\n", name, payload)
			}
			<-slots
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// ledger compares what was acknowledged with what is read after the kills.
type ledger struct {
	acked         map[string]bool
	count, newest map[string]int
}

func newLedger() *ledger { return &ledger{map[string]bool{}, map[string]int{}, map[string]int{}} }

// read notes a message that was stored; those of a name are numbered upwards.
func (l *ledger) read(t *testing.T, name, payload string) {
	t.Helper()
	l.count[name+" "+payload]++
	var n int
	if _, err := fmt.Sscan(payload, &n); err != nil {
		t.Fatal(err)
	}
	if last, seen := l.newest[name]; seen && n <= last {
		t.Fatalf("message %d of %s is stored after %d", n, name, last)
	}
	l.newest[name] = n
}

func (l *ledger) check(t *testing.T, kills int) {
	t.Helper()
	for key := range l.acked {
		if l.count[key] != 1 {
			t.Errorf("%s was acknowledged and is stored %d times", key, l.count[key])
		}
	}
	t.Logf("%d kills, %d acknowledged, %d stored", kills, len(l.acked), len(l.count))
}

func TestKilledUnderLoad(t *testing.T) {
	dir := t.TempDir()
	l := newLedger()
	for run := range 4 {
		l.crash(t, dir, "telemetry", run, 3000*(run+1))
	}
	b := inside(t, dir, Options{Durability: Strict})
	s := newMemStore(t)
	waitStored(t, persist(t, b, s, quick))
	for _, m := range s.messages {
		l.read(t, m.Device, string(m.Payload))
	}
	l.check(t, 4)
}

// TestTopicsKilledUnderLoad: what was acknowledged on topics is there once and in order,
// of whatever stood together when its process was killed.
func TestTopicsKilledUnderLoad(t *testing.T) {
	dir := t.TempDir()
	l := newLedger()
	for run := range 4 {
		l.crash(t, dir, "topics", run, 6000*(run+1))
	}
	b := inside(t, dir, Options{Durability: Strict})
	whole, err := b.Topics().Read(t.Context(), device.SourceTopics, "default", []string{"#"}, 0, func(a device.Arrival) bool {
		l.read(t, a.Topic, payload(t, a))
		return true
	})
	if err != nil || !whole {
		t.Fatalf("the topics are read whole: %v, %v", whole, err)
	}
	l.check(t, 4)
	if places := lastSeq(t, b, TopicStream); places >= uint64(len(l.count)) {
		t.Errorf("none of %d messages stood together", len(l.count))
	}
}

// crash runs a child, kills it after so many acknowledgements and notes all
// it printed.
func (l *ledger) crash(t *testing.T, dir, load string, run, after int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashChild$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), crashDir+"="+dir, fmt.Sprintf("%s_RUN=%d", crashDir, run), crashDir+"_LOAD="+load)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var killed atomic.Bool
	watchdog := time.AfterFunc(50*time.Second, func() { _ = cmd.Process.Kill() })
	defer watchdog.Stop()
	acked := 0
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var name, n string
		if _, err := fmt.Sscanf(lines.Text(), "ACK %s %s", &name, &n); err != nil {
			continue // the line the kill tore
		}
		l.acked[name+" "+n] = true
		if acked++; acked >= after && !killed.Swap(true) {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // it was killed
	if !killed.Load() {
		t.Fatalf("the child ended by itself after %d acknowledgements", acked)
	}
}
