package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// victim is the real server, in a process of its own. Its output goes to a file
// for each start, outside what is at fault.
type victim struct {
	program, data, logs string
	durability          string
	with                []string // more arguments

	starts int
	cmd    *exec.Cmd
	gone   chan struct{}                     // closed when the process has ended
	doors  atomic.Pointer[map[string]string] // nil: not serving
}

// errGone means the victim ended, which the laboratory did not ask for.
var errGone = errors.New("the server ended by itself")

// build makes the program to be tested, from the module around us.
func build(ctx context.Context, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", to, "github.com/tributary-iot/tributary/cmd/tributary")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return nil
}

// spawn starts the process, and does not wait for it.
func (v *victim) spawn() error {
	v.starts++
	v.doors.Store(nil)
	// A killed server leaves its addresses behind; they would pass for the new one's.
	if err := os.Remove(v.addressFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	log, err := os.Create(filepath.Join(v.logs, fmt.Sprintf("server-%04d.log", v.starts)))
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"serve", "--data", v.data, "--open", "--durability", v.durability, "--node", "victim", "--stream-keep-bytes", "16MiB"}
	for _, door := range []string{"mqtt", "amqp", "http", "grpc", "admin"} {
		args = append(args, "--"+door, "127.0.0.1:0")
	}
	for _, door := range []string{"mqtts", "amqps", "https", "nats-listen"} {
		args = append(args, "--"+door, "off")
	}
	v.cmd = exec.Command(v.program, append(args, v.with...)...)
	v.cmd.Stdout, v.cmd.Stderr = log, log
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // Ctrl-C is ours
	if err := v.cmd.Start(); err != nil {
		return err
	}
	gone, cmd := make(chan struct{}), v.cmd
	v.gone = gone
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		close(gone)
	}()
	return nil
}

func (v *victim) addressFile() string { return filepath.Join(v.data, "addresses.json") }

// await returns when the doors are open, errGone if the process ends before.
func (v *victim) await(ctx context.Context) error {
	return until(ctx, func() (bool, error) {
		if v.ended() {
			return false, fmt.Errorf("%w before it was ready: %s", errGone, v.lastWords())
		}
		raw, err := os.ReadFile(v.addressFile())
		if err != nil {
			return false, nil
		}
		doors := map[string]string{}
		if json.Unmarshal(raw, &doors) != nil {
			return false, nil
		}
		v.doors.Store(&doors)
		return true, nil
	})
}

// door is where a protocol is served now, "" while it is not.
func (v *victim) door(name string) string {
	if doors := v.doors.Load(); doors != nil {
		return (*doors)[name]
	}
	return ""
}

// token is the operator's.
func (v *victim) token() (string, error) {
	raw, err := os.ReadFile(filepath.Join(v.data, "admin.token"))
	return strings.TrimSpace(string(raw)), err
}

func (v *victim) ended() bool {
	select {
	case <-v.gone:
		return true
	default:
		return false
	}
}

// kill is kill -9; it returns when the process is gone.
func (v *victim) kill() {
	v.doors.Store(nil)
	v.signal(syscall.SIGKILL)
	<-v.gone
}

func (v *victim) signal(s syscall.Signal) { _ = v.cmd.Process.Signal(s) } // it may have ended: then gone says so

// dump lets the server write into its log what each of its goroutines does, and ends it.
func (v *victim) dump() {
	v.doors.Store(nil)
	v.signal(syscall.SIGQUIT)
	select {
	case <-v.gone:
	case <-time.After(10 * time.Second):
	}
}

// stop asks the server to end and wants it to end well.
func (v *victim) stop(ctx context.Context) error {
	v.doors.Store(nil)
	v.signal(syscall.SIGTERM)
	select {
	case <-v.gone:
	case <-ctx.Done():
		v.kill()
		return fmt.Errorf("the server did not stop: %w", ctx.Err())
	}
	if code := v.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("the server ended with %d when it was asked to stop: %s", code, v.lastWords())
	}
	return nil
}

// readiness is what /readyz says; the error is why it is not ready.
func (v *victim) readiness(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.door("admin")+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("not ready:\n%s", text)
	}
	return err
}

// lastWords are the end of the log.
func (v *victim) lastWords() string {
	raw, err := os.ReadFile(filepath.Join(v.logs, fmt.Sprintf("server-%04d.log", v.starts)))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "\n")
}

// until asks until the answer is yes, an error, or ctx ends.
func until(ctx context.Context, ask func() (bool, error)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := ask(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// wait lets time pass; false: ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
