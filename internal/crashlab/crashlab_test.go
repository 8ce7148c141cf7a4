package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tributary-iot/tributary/internal/peer"
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

// TestTheLaboratory is a reduced set of the runs in docs/durability.md. The runs
// mostly wait, so all go at once, however few processors there are.
func TestTheLaboratory(t *testing.T) {
	peer.FUSE(t)
	server := program(t)
	t.Cleanup(func() { os.RemoveAll(buildDir) })
	runs := []*reduced{
		{name: "kill", args: []string{"--fault", "kill,stop", "--rounds", "3"}},
		{name: "powercut", args: []string{"--fault", "powercut", "--rounds", "3"}},
		{name: "fsyncerr", args: []string{"--fault", "fsyncerr,writeerr", "--rounds", "3"}},
		{name: "enospc", args: []string{"--fault", "enospc", "--rounds", "2"}},
		{name: "storedown", args: []string{"--fault", "storedown", "--rounds", "2"}},
		{name: "control", args: []string{"--fault", "powercut", "--rounds", "3", "--durability", "relaxed", "--expect-loss"}},
	}
	var all sync.WaitGroup
	for _, r := range runs {
		all.Go(func() { r.do(server) })
	}
	all.Wait()
	for _, r := range runs {
		t.Run(r.name, func(t *testing.T) {
			t.Logf("%s", &r.out)
			if r.code != 0 || r.err != nil {
				t.Errorf("crashlab %s ended with %d, %v", strings.Join(r.args, " "), r.code, r.err)
			}
		})
	}
}

// reduced is a short run and what came of it.
type reduced struct {
	name string
	args []string
	out  bytes.Buffer
	code int
	err  error
}

// do runs in a directory that is not the test's: what fails is to be looked at.
func (r *reduced) do(server string) {
	work, err := os.MkdirTemp("", "crashlab-"+r.name+"-")
	if err != nil {
		r.err = err
		return
	}
	r.code = run(append(r.args, "--seed", "11", "--rate", "100", "--work", work, "--server", server), &r.out)
	if r.code == 0 {
		r.err = os.RemoveAll(work)
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
