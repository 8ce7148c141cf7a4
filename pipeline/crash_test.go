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

// crashDir names the directory to a child process of TestKilledUnderLoad.
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
	slots := make(chan struct{}, 2000)
	for i := 0; ; i++ {
		slots <- struct{}{}
		m := &device.Message{Tenant: "default", Device: fmt.Sprintf("run%s-%d", run, i%10), Protocol: device.MQTT, Payload: fmt.Append(nil, i)}
		if err := b.Submit(m, func(err error) {
			if err == nil {
				fmt.Printf("ACK %s %s\n", m.Device, m.Payload)
			}
			<-slots
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKilledUnderLoad(t *testing.T) {
	dir := t.TempDir()
	acked := map[string]bool{}
	for run := range 4 {
		for _, key := range crash(t, dir, run, 3000*(run+1)) {
			acked[key] = true
		}
	}
	b := inside(t, dir, Options{Durability: Strict})
	s := newMemStore(t)
	waitStored(t, persist(t, b, s, quick))
	count, newest := map[string]int{}, map[string]int{}
	for _, m := range s.messages {
		count[m.Device+" "+string(m.Payload)]++
		var n int
		if _, err := fmt.Sscan(string(m.Payload), &n); err != nil {
			t.Fatal(err)
		}
		if last, seen := newest[m.Device]; seen && n <= last {
			t.Fatalf("message %d of %s is stored after %d", n, m.Device, last)
		}
		newest[m.Device] = n
	}
	for key := range acked {
		if count[key] != 1 {
			t.Errorf("%s was acknowledged and is stored %d times", key, count[key])
		}
	}
	t.Logf("%d kills, %d acknowledged, %d stored", 4, len(acked), len(s.messages))
}

// crash runs a child, kills it after so many acknowledgements and answers all
// it printed.
func crash(t *testing.T, dir string, run, after int) (acked []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashChild$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), crashDir+"="+dir, fmt.Sprintf("%s_RUN=%d", crashDir, run))
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
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var name, n string
		if _, err := fmt.Sscanf(lines.Text(), "ACK %s %s", &name, &n); err != nil {
			continue // the line the kill tore
		}
		if acked = append(acked, name+" "+n); len(acked) >= after && !killed.Swap(true) {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // it was killed
	if !killed.Load() {
		t.Fatalf("the child ended by itself after %d acknowledgements", len(acked))
	}
	return acked
}
