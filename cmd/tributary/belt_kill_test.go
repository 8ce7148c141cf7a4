package main_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// killDir tells the test binary that it is the one to be killed.
const killDir = "TRIBUTARY_TEST_COMMAND_DIR"

// TestCommandsSurviveKill kills a process with kill -9 while it sends, delivers
// and answers commands, and opens what it left: every command whose sending was
// confirmed is there, every confirmed end is its end, nothing is stuck in SENT,
// and what was queued is delivered.
func TestCommandsSurviveKill(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv(killDir); dir != "" {
		busyUntilKilled(t, dir)
		return
	}
	dir, known := t.TempDir(), map[string]string{}
	for range 5 {
		runAndKill(t, dir, known)
		h := openCommands(t, dir)
		for id, end := range known {
			trail := h.trail(id)
			if strings.HasSuffix(trail, "SENT") || end != "" && !strings.HasSuffix(trail, end) {
				t.Errorf("%s, known as %q, is %s", id, end, trail)
			}
		}
		h.close()
	}
	if len(known) == 0 {
		t.Fatal("nothing was sent before the kills")
	}
	h := openCommands(t, dir)
	defer h.close()
	for n := range 4 {
		d := sit(t, h.Service, dev(n), 1)
		go func() {
			for {
				select {
				case v := <-d.got:
					_ = d.settle(v, device.Rejected)
					d.Request(1)
				case <-t.Context().Done():
					return
				}
			}
		}()
	}
	for id := range known { // in any order: one whose sessions were lost twice comes behind newer ones
		var trail string
		eventually(t, id+" was delivered", func() bool {
			trail = h.trail(id)
			return !strings.HasSuffix(trail, "QUEUED") && !strings.HasSuffix(trail, "SENT")
		})
	}
	t.Logf("%d commands", len(known))
}

// runAndKill runs the other process for a moment and adds what it reported.
func runAndKill(t *testing.T, dir string, known map[string]string) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestCommandsSurviveKill$")
	child.Env = append(os.Environ(), killDir+"="+dir)
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	reports := 20 + rand.IntN(200)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var id, end string
		if n, _ := fmt.Sscanf(lines.Text(), "report %s %s", &id, &end); n < 1 {
			continue
		}
		if reports--; reports == 0 {
			must(t, child.Process.Kill())
		}
		if known[id] == "" {
			known[id] = end
		}
	}
	_ = child.Wait() // killed
	if reports > 0 {
		t.Fatal("the other process ended by itself")
	}
}

// busyUntilKilled reports on standard output what it was told is durable.
func busyUntilKilled(t *testing.T, dir string) {
	h := openCommands(t, dir)
	for n := range 4 {
		id, ahead := dev(n), make(chan bool, 30)
		go func() {
			for {
				ahead <- true
				c := h.send(id, device.Command{ResponseTimeout: time.Hour})
				fmt.Printf("\nreport %s\n", c.ID)
			}
		}()
		go func() {
			d := sit(t, h.Service, id, 2)
			for v := range d.got {
				_ = d.settle(v, device.Accepted)
				if answer(h.Service, id, v.Command.ID, 200) == nil {
					fmt.Printf("\nreport %s SUCCEEDED\n", v.Command.ID)
				}
				d.Request(1)
				<-ahead
			}
		}()
	}
	<-time.After(time.Minute)
}
