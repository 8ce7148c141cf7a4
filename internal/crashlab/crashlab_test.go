package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestMain lets the test binary be the process that locks the store.
func TestMain(m *testing.M) {
	if os.Getenv(lockEnv) != "" {
		os.Exit(run(nil, os.Stdout))
	}
	os.Exit(m.Run())
}

var (
	buildOnce sync.Once
	buildDir  string
	buildErr  error
)

// program is the server, built once.
func program(t *testing.T) string {
	t.Helper()
	buildOnce.Do(func() {
		if buildDir, buildErr = os.MkdirTemp("", "crashlab-test-"); buildErr == nil {
			buildErr = build(t.Context(), filepath.Join(buildDir, "tributary"))
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return filepath.Join(buildDir, "tributary")
}

// TestTheLaboratory is a reduced set of the runs in docs/durability.md. It needs
// root and /dev/fuse, and fails without.
func TestTheLaboratory(t *testing.T) {
	server := program(t)
	t.Cleanup(func() { os.RemoveAll(buildDir) })
	for _, c := range []struct {
		name string
		args []string
	}{
		{"kill", []string{"--fault", "kill,stop", "--rounds", "3"}},
		{"powercut", []string{"--fault", "powercut", "--rounds", "3"}},
		{"fsyncerr", []string{"--fault", "fsyncerr,writeerr", "--rounds", "3"}},
		{"enospc", []string{"--fault", "enospc", "--rounds", "2"}},
		{"storedown", []string{"--fault", "storedown", "--rounds", "2"}},
		{"control", []string{"--fault", "powercut", "--rounds", "3", "--durability", "relaxed", "--expect-loss"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			work, err := os.MkdirTemp("", "crashlab-"+c.name+"-") // not the test's: what fails is to be looked at
			if err != nil {
				t.Fatal(err)
			}
			args := append(c.args, "--seed", "11", "--rate", "200", "--work", work, "--server", server)
			code := run(args, &out)
			t.Logf("%s", &out)
			if code == 0 {
				err = os.RemoveAll(work)
			}
			if code != 0 || err != nil {
				t.Errorf("crashlab %s ended with %d, %v", strings.Join(args, " "), code, err)
			}
		})
	}
}

// TestVoidRuns: what proves nothing does not pass.
func TestVoidRuns(t *testing.T) {
	ok := tally{Acked: leastAcks}
	for name, c := range map[string]struct {
		config config
		tally  tally
		err    error
		want   int
	}{
		"all is well":               {config{}, ok, nil, 0},
		"too few acks":              {config{}, tally{Acked: leastAcks - 1}, nil, 2},
		"the laboratory broke":      {config{}, ok, fmt.Errorf("broken"), 2},
		"a loss":                    {config{}, tally{Acked: leastAcks, Lost: 1}, nil, 1},
		"a loss, then broken":       {config{}, tally{Lost: 1}, fmt.Errorf("broken"), 1},
		"a double place":            {config{}, tally{Acked: leastAcks, TwicePlaces: 1}, nil, 1},
		"a double key":              {config{}, tally{Acked: leastAcks, TwiceKeys: 1}, nil, 1},
		"out of order":              {config{}, tally{Acked: leastAcks, Reordered: 1}, nil, 1},
		"not said by any device":    {config{}, tally{Acked: leastAcks, Foreign: 1}, nil, 1},
		"it did not come back":      {config{}, tally{Acked: leastAcks, Stuck: 1}, nil, 1},
		"a control that lost":       {config{ExpectLoss: true}, tally{Acked: leastAcks, Lost: 1}, nil, 0},
		"a control that lost none":  {config{ExpectLoss: true}, ok, nil, 1},
		"a control that is too few": {config{ExpectLoss: true}, tally{Acked: 1, Lost: 1}, nil, 2},
		"a control that doubled":    {config{ExpectLoss: true}, tally{Acked: leastAcks, Lost: 1, TwiceKeys: 1}, nil, 1},
	} {
		if got := c.config.verdict(c.tally, c.err); got != c.want {
			t.Errorf("%s: exit code %d, want %d", name, got, c.want)
		}
	}
}

// TestCommandLine: mistakes are told, help is worth reading.
func TestCommandLine(t *testing.T) {
	var out bytes.Buffer
	for _, args := range [][]string{{}, {"--fault", "meteor"}, {"--fault", "kill", "--rounds", "0"}, {"--fault", "kill", "--durability", "maybe"}} {
		if code := run(args, &out); code != 2 {
			t.Errorf("crashlab %v ended with %d", args, code)
		}
	}
	for name, f := range faults {
		if !strings.Contains(about, "\n  "+name) || f.do == nil {
			t.Errorf("the help does not tell of %s", name)
		}
	}
}
