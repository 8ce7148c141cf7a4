package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestAStartTellsWhatItFound: after a crash the log says so, and of each part
// what it held; after a clean stop it says only the second.
func TestAStartTellsWhatItFound(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := serve(t, data, "--open")
	for n := range 30 {
		if !sendKeyed(t.Context(), http.DefaultClient, s.addresses["http"], "dev", fmt.Sprint("key ", n)) {
			t.Fatal("a message was not acknowledged")
		}
	}
	for range 3 {
		s.client("send", "dev", "heat", "{}", "--one-way")
	}
	eventually(t, "everything is stored", func() bool { return len(s.query("dev")) == 30 })
	unclean := func() float64 { return s.metric("tributary_recovery_unclean") }
	if unclean() != 0 {
		t.Error("the first start of all takes itself for one after a crash")
	}
	s.kill()
	found := func(crashed bool) {
		t.Helper()
		for _, part := range []string{"stream", "store", "commands"} {
			if s.metric("tributary_recovery_seconds", `part="`+part+`"`) <= 0 {
				t.Errorf("nothing says how long the %s took", part)
			}
		}
		s.stop()
		log := s.log.String()
		for _, line := range []string{
			`msg="found the stream" stream=TELEMETRY messages=30 bytes=\d{4,} epoch=\d+ last=30 took=`,
			`msg="found the store" store=\S+ epoch=\d+ stored=30 messages=30 keys=30 guarded=none took=`,
			`msg="found the commands" commands=3 events=\d+ took=`,
		} {
			if !regexp.MustCompile(line).MatchString(log) {
				t.Errorf("there is no line %s in\n%s", line, log)
			}
		}
		if told := regexp.MustCompile(`level=WARN msg="the server was not stopped cleanly`).MatchString(log); told != crashed {
			t.Errorf("it says that it crashed: %v, and it did: %v", told, crashed)
		}
	}
	for _, crashed := range []bool{true, false} {
		s = serve(t, data, "--open")
		if got := unclean(); got != map[bool]float64{true: 1}[crashed] {
			t.Errorf("unclean is %v", got)
		}
		found(crashed)
	}
}

// TestAFailedStartRecoversNothing: what is to be recovered is so until a start
// has come to its end.
func TestAFailedStartRecoversNothing(t *testing.T) {
	dir := t.TempDir()
	start := func(clean bool) (unclean bool) {
		t.Helper()
		lock, err := lockData(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lockData(dir); err == nil {
			t.Error("the directory was locked twice")
		}
		defer func() {
			if err := lock.release(clean); err != nil {
				t.Error(err)
			}
		}()
		return lock.unclean
	}
	for i, c := range []struct{ clean, found bool }{{true, false}, {false, false}, {false, true}, {true, true}, {true, false}} {
		if got := start(c.clean); got != c.found {
			t.Errorf("start %d found a crash: %v", i, got)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, lockFile)); err != nil || len(text) != 0 {
		t.Errorf("after a clean end: %q, %v", text, err)
	}
}
