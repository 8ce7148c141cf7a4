package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tributary-iot/tributary/internal/peer"
)

// tour is how each shell block of the README's five minutes is known, and what
// it must print. A query waits for what was acknowledged before it.
var tour = []struct {
	about string
	shows []string
}{
	{"make build\nbin/tributary serve --data data --open\n", nil},
	{"mosquitto_pub -q 1 -t dev1/", nil},
	{"python3 - <<", nil},
	{"curl --fail-with-body -H", nil},
	{"query --data data --device dev1", []string{"mqtt      temperature=21.5", `"dev2"`, `"doubleValue":21.5`, "http      temperature=21.5",
		"dev1    room     temperature  21.5", "dev2    room     temperature  21.5", "dev3    room     temperature  21.5"}},
	{"tail --data data", []string{"mqtt  dev1/room  temperature=21.5"}},
	{"mosquitto_sub -q 1", nil},
	{"send --data data dev1 heat", []string{"SUCCEEDED", `{"done":"heat"}`}},
	{"send --data data dev3 heat", []string{`"heat"`, "dev3    heat     DELIVERED", "dev1    heat     SUCCEEDED"}},
	{"device add dev4", []string{"dev4", "trib_"}},
}

// TestREADME runs the five-minute tour as a reader types it, in a directory
// with bin/tributary and data; only the ports are others.
func TestREADME(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	blocks := shellBlocks(t, "../../README.md", "## Five minutes")
	if len(blocks) != len(tour) {
		t.Fatalf("the tour has %d shell blocks, want %d", len(blocks), len(tour))
	}
	for i, step := range tour {
		block, printed := blocks[i], ""
		switch {
		case !strings.Contains(block, step.about):
			t.Fatalf("block %d is %q, want the one with %q", i, block, step.about)
		case i == 0: // newReader did it
		case strings.Contains(block, " tail "):
			printed = r.watch(block, blocks[1], step.shows)
		default:
			printed = r.run(block)
		}
		if missing := lacks(printed, step.shows); len(missing) > 0 {
			t.Fatalf("%s\nprinted no %q:\n%s", block, missing, printed)
		}
	}
}

// lacks answers what of the wanted is not printed.
func lacks(printed string, wanted []string) []string {
	return slices.DeleteFunc(slices.Clone(wanted), func(w string) bool { return strings.Contains(printed, w) })
}

// shellBlocks answers the sh blocks of one section of a Markdown file.
func shellBlocks(t *testing.T, file, heading string) (blocks []string) {
	text, err := os.ReadFile(file)
	(&reader{t: t}).must(err)
	_, section, _ := strings.Cut(string(text), "\n"+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, rest := range strings.Split(section, "\n```sh\n")[1:] {
		block, _, _ := strings.Cut(rest, "```")
		blocks = append(blocks, block)
	}
	return blocks
}

// reader is somebody who types what the README says.
type reader struct {
	t     *testing.T
	dir   string
	ports *strings.Replacer
}

func newReader(t *testing.T) *reader {
	pub, sub := peer.Command(t, "mosquitto_pub"), peer.Command(t, "mosquitto_sub")
	python, _ := peer.Python(t, "proton"), peer.Command(t, "curl")
	r := &reader{t: t, dir: t.TempDir()}
	at := serve(t, filepath.Join(r.dir, "data"), "--open").addresses
	_, port, _ := strings.Cut(at["mqtt"], ":")
	r.must(os.Mkdir(filepath.Join(r.dir, "bin"), 0o700)) // first on the PATH
	for name, does := range map[string]string{
		"tributary":     runEnv + "=1 exec '" + os.Args[0] + "'",
		"mosquitto_pub": "exec '" + pub + "' -p " + port,
		"mosquitto_sub": "exec '" + sub + "' -p " + port,
		"python3":       "exec '" + python + "'",
	} {
		r.must(os.WriteFile(filepath.Join(r.dir, "bin", name), fmt.Appendf(nil, "#!/bin/sh\n%s \"$@\"\n", does), 0o700))
	}
	usual, err := parseServe()
	r.must(err)
	if usual.MQTT != "127.0.0.1:1883" { // mosquitto's clients know no other
		t.Fatalf("the tour does not say that MQTT is at %s", usual.MQTT)
	}
	r.ports = strings.NewReplacer(usual.AMQP, at["amqp"], usual.HTTP, at["http"])
	return r
}

func (r *reader) must(err error) {
	if r.t.Helper(); err != nil {
		r.t.Fatal(err)
	}
}

// start types a block. What it leaves in the background ends with the test.
func (r *reader) start(block string) (cmd *exec.Cmd, printed func() string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	cmd = exec.CommandContext(ctx, "sh", "-e", "-c", r.ports.Replace(block))
	cmd.Dir, cmd.Env = r.dir, append(os.Environ(), "PATH="+filepath.Join(r.dir, "bin")+":"+os.Getenv("PATH"))
	out, err := os.CreateTemp(r.dir, "printed") // a pipe would make Wait wait for the background
	r.must(err)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = out, out, &syscall.SysProcAttr{Setpgid: true}
	r.must(cmd.Start())
	r.t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); cancel(); out.Close() })
	return cmd, func() string {
		text, err := os.ReadFile(out.Name())
		r.must(err)
		return string(text)
	}
}

// run types a block that must succeed.
func (r *reader) run(block string) string {
	cmd, printed := r.start(block)
	if err := cmd.Wait(); err != nil {
		r.t.Fatalf("%v\n%s\nprinted:\n%s", err, block, printed())
	}
	return printed()
}

// watch types a line that goes on until Ctrl-C, and another until it has shown.
func (r *reader) watch(line, again string, wanted []string) string {
	cmd, printed := r.start("exec " + line)
	eventually(r.t, line, func() bool { r.run(again); return len(lacks(printed(), wanted)) == 0 })
	r.must(cmd.Process.Signal(syscall.SIGINT))
	r.must(cmd.Wait())
	return printed()
}
