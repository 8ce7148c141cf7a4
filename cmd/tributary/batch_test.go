package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// TestBatchOverAKill sends one command to devices on every protocol, some of them
// away, kills the server in the middle, and brings everybody back: each device has
// had one command, and the batch says so.
func TestBatchOverAKill(t *testing.T) {
	const devices = 40
	data := t.TempDir()
	s := serve(t, data, "--open")
	var list strings.Builder
	for i := range devices {
		fmt.Fprintf(&list, "dev-%02d\n", i)
	}
	file := filepath.Join(t.TempDir(), "devices")
	if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var workers [devices]worker
	var now atomic.Pointer[server]
	now.Store(s)
	work, rest := context.WithCancel(t.Context())
	defer rest()
	begin := func(i int) {
		workers[i].protocol, workers[i].device = protocols[i%len(protocols)], fmt.Sprintf("dev-%02d", i)
		go workers[i].labour(work, &now)
	}
	for i := range devices / 2 {
		begin(i)
	}
	made := parseLines[struct {
		Name  string
		Total int
	}](t, s.client("batch", "create", "update", `{"to":2}`, "--devices", file, "--id", "b1", "--window", "30", "-o", "json"))
	if len(made) != 1 || made[0].Total != devices {
		t.Fatalf("made %+v", made)
	}
	eventually(t, "the first to succeed", func() bool { return s.batch(t.Context(), made[0].Name).GetProgress().GetSucceeded() > 0 })
	s.kill()
	s = serve(t, data, "--open")
	now.Store(s)
	for i := devices / 2; i < devices; i++ {
		begin(i)
	}
	if out, err := s.tryClient("batch", "watch", "b1"); err != nil || !strings.Contains(out, "100%  40/40  COMPLETED  40 succeeded") {
		t.Errorf("watch: %v\n%s", err, out)
	}
	commands := parseLines[struct{ Device, State string }](t, s.client("commands", "list", "-o", "json", "--limit", "1000"))
	if len(commands) != devices {
		t.Errorf("%d commands for %d devices", len(commands), devices)
	}
	if out := s.client("batch", "results", "b1"); strings.Count(out, "SUCCEEDED  dev-") != devices || strings.Count(out, "\n") != devices {
		t.Errorf("results:\n%s", out)
	}
	if out := s.client("batch", "list"); !strings.Contains(out, "COMPLETED  40       40     40") {
		t.Errorf("list: %s", out)
	}
	if _, err := s.tryClient("batch", "pause", "b1"); err == nil {
		t.Error("a batch that has ended was paused")
	}
	rest()
	s.stop()
}

// TestBatchCommands pauses, resumes and cancels from the command line.
func TestBatchCommands(t *testing.T) {
	s := serve(t, t.TempDir(), "--open")
	for i := range 3 {
		s.client("device", "add", fmt.Sprint("dev", i), "--label", "roof")
	}
	s.client("device", "add", "other")
	out := s.client("batch", "create", "heat", "--selector", "roof", "--id", "b2", "--rate", "1", "--ttl", "1h")
	if !strings.HasPrefix(out, "b2  3 devices  RUNNING") {
		t.Errorf("create: %s", out)
	}
	if out, err := s.tryClient("batch", "create", "heat", "--selector", "roof", "--id", "b2"); err == nil || !strings.Contains(out, "exists already") {
		t.Errorf("a second one of that id: %v, %s", err, out)
	}
	if out := s.client("batch", "pause", "b2"); out != "b2  PAUSED\n" {
		t.Errorf("pause: %s", out)
	}
	if out := s.client("batch", "resume", "b2"); out != "b2  RUNNING\n" {
		t.Errorf("resume: %s", out)
	}
	if out := s.client("batch", "cancel", "b2", "--reason", "too warm"); out != "b2  CANCELLED\n" {
		t.Errorf("cancel: %s", out)
	}
	if out, err := s.tryClient("batch", "watch", "b2"); err == nil || !strings.Contains(out, "ended as CANCELLED: 0 of 3 devices did it (too warm)") {
		t.Errorf("watch: %v, %s", err, out)
	}
	for _, wrong := range [][]string{
		{"batch", "create", "heat"}, {"batch", "create", "heat", "--selector", "cellar"}, {"batch", "create", "a/b", "--selector", "roof"},
		{"batch", "watch", "nosuch"}, {"batch", "results", "nosuch"}, {"batch", "cancel", "nosuch"}, {"batch", "list", "--limit", "0"},
		{"batch", "create", "heat", "--devices", filepath.Join(s.data, "nosuch")},
	} {
		if out, err := s.tryClient(wrong...); err == nil || strings.Contains(out, "rpc error") {
			t.Errorf("%v: %v, %s", wrong, err, out)
		}
	}
	s.stop()
}

func TestBatchLine(t *testing.T) {
	for _, c := range []struct {
		b    *pb.CommandBatch
		want string
	}{
		{&pb.CommandBatch{Total: 100, State: 1, Progress: &pb.CommandBatchProgress{Unsent: 50, Pending: 25, Succeeded: 20, Failed: 5}},
			"███████▒▒▒▒▒▒▒▒···············  25%  25/100  RUNNING  20 succeeded  25 pending  5 failed"},
		{&pb.CommandBatch{Total: 3, State: 3, Progress: &pb.CommandBatchProgress{Succeeded: 3}}, strings.Repeat("█", 30) + " 100%  3/3  COMPLETED  3 succeeded"},
	} {
		if got := batchLine(c.b); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}
