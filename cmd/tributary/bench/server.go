package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a process under measurement.
type server struct {
	cmd       *exec.Cmd
	dir       string
	log       *os.File
	helper    *exec.Cmd // a program it needs beside it; nil for none
	addresses map[string]string
}

// serverFigures is what the server's process and metrics say of a load.
type serverFigures struct {
	committedAtEnd int           // rows in the store when the load ended
	lagAtHalf      int           // in the stream and not in the store, half-way through the load
	lagAtEnd       int           // acknowledged by then, not yet in the store
	drain          time.Duration // until the store had them all
	cpu            time.Duration // user and system, the whole life of the process
}

// What is read of the server's metrics: telemetry rows committed to the store,
// and messages of the stream that are not in it yet.
const (
	metricCommitted = `tributary_pipeline_persist_rows_total{stream="TELEMETRY"}`
	metricLag       = `tributary_pipeline_persist_lag_messages{stream="TELEMETRY"}`
)

// startServer starts what a case measures; more goes to Tributary's command line.
func startServer(ctx context.Context, name string, o Options, more ...string) (*server, error) {
	if b := brokerOf(name); b != nil {
		return b.start(ctx)
	}
	if o.Profiles != "" {
		more = append(more, "--cpu-profile", filepath.Join(o.Profiles, name+".pprof"))
	}
	_, durability, _ := strings.Cut(name, "-")
	return startTributary(ctx, o.Binary, durability, more)
}

func startTributary(ctx context.Context, binary, durability string, more []string) (*server, error) {
	dir, err := os.MkdirTemp("", "tributary-bench-")
	if err != nil {
		return nil, err
	}
	args := []string{"serve", "--open", "--data", dir, "--durability", durability,
		"--mqtt", "127.0.0.1:0", "--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--mqtts", "off", "--amqps", "off", "--https", "off", "--nats-listen", "off"}
	s, err := start(dir, exec.CommandContext(ctx, binary, append(args, more...)...))
	if err != nil {
		return nil, err
	}
	return s, s.await(ctx, func() bool {
		raw, err := os.ReadFile(filepath.Join(dir, "addresses.json"))
		return err == nil && json.Unmarshal(raw, &s.addresses) == nil
	})
}

// mosquittoConf is the whole configuration of the broker compared with: acks
// from memory, no limit on what is in flight.
const mosquittoConf = "listener %PORT% 127.0.0.1\nallow_anonymous true\npersistence false\nmax_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\nlog_dest none\n"

func quoteConf(conf string) string {
	return strings.ReplaceAll(strings.TrimSpace(conf), "\n", "; ")
}

func startMosquitto(ctx context.Context) (*server, error) {
	dir, err := os.MkdirTemp("", "tributary-bench-")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	addr := net.JoinHostPort("127.0.0.1", ports[0])
	conf := filepath.Join(dir, "mosquitto.conf")
	text := strings.ReplaceAll(mosquittoConf, "%PORT%", ports[0])
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	s, err := start(dir, exec.CommandContext(ctx, "mosquitto", "-c", conf))
	if err != nil {
		return nil, err
	}
	s.addresses = map[string]string{"mqtt": addr}
	return s, s.await(ctx, listens(addr))
}

// start runs a program in a directory of its own; more is added to its environment.
func start(dir string, cmd *exec.Cmd, more ...string) (*server, error) {
	log, err := os.Create(filepath.Join(dir, "server.log"))
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	// What this process was told about its own server is not for those measured.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TRIBUTARY_") })
	cmd.Env = append(cmd.Env, more...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	return &server{cmd: cmd, dir: dir, log: log}, cmd.Start()
}

// await polls until the server is ready.
func (s *server) await(ctx context.Context, ready func() bool) error {
	deadline := time.Now().Add(startPatience)
	for !ready() {
		if ctx.Err() != nil || time.Now().After(deadline) {
			s.stop()
			log, _ := os.ReadFile(s.log.Name())
			return errors.Join(ctx.Err(), fmt.Errorf("the server did not become ready; it said:\n%s", log))
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// finish reads the figures, waits until the store has every acknowledged
// message, and stops the server.
func (s *server) finish(ctx context.Context, r result) (serverFigures, error) {
	var f serverFigures
	if s.addresses["admin"] != "" {
		ended := time.Now()
		committed, err := s.metric(ctx, metricCommitted)
		f.committedAtEnd, f.lagAtEnd = committed, max(r.acked-committed, 0)
		for err == nil && committed < r.acked {
			if time.Since(ended) > drainPatience {
				return f, fmt.Errorf("%d messages were acknowledged, %d are in the store %s after the load", r.acked, committed, drainPatience)
			}
			time.Sleep(5 * time.Millisecond)
			committed, err = s.metric(ctx, metricCommitted)
		}
		if err != nil {
			return f, err
		}
		f.drain = time.Since(ended)
	}
	err := s.stop()
	if s.cmd.ProcessState != nil {
		f.cpu = s.cmd.ProcessState.UserTime() + s.cmd.ProcessState.SystemTime()
	}
	return f, err
}

// startPatience is how long a server may take to be ready: brokers on a busy machine
// take their time.
const startPatience = 5 * time.Minute

// drainPatience is how long the store may take to catch up.
const drainPatience = 5 * time.Minute

// lagAt answers, once asked after it, what the store's lag was when a while had
// passed; 0 when the load was over by then, or the server has no store.
func (s *server) lagAt(ctx context.Context, after time.Duration) func() int {
	lag := make(chan int, 1)
	looking, cancel := context.WithTimeout(ctx, after)
	go func() {
		<-looking.Done()
		n := 0
		if ctx.Err() == nil && s.addresses["admin"] != "" {
			n, _ = s.metric(ctx, metricLag)
		}
		lag <- n
	}()
	return func() int { cancel(); return <-lag }
}

// metric reads one of the server's metrics.
func (s *server) metric(ctx context.Context, name string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addresses["admin"]+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), name+" "); found {
			n, err := strconv.ParseFloat(value, 64)
			return int(n), err
		}
	}
	return 0, fmt.Errorf("/metrics lacks %s", name)
}

func (s *server) stop() error {
	if s.cmd.ProcessState != nil {
		return nil
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	err := s.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && s.addresses["admin"] == "" {
		return nil // a broker's exit code after SIGTERM says nothing
	}
	return err
}

func (s *server) remove() {
	s.stop()
	if s.helper != nil {
		_ = s.helper.Process.Kill()
		_ = s.helper.Wait()
	}
	s.log.Close()
	os.RemoveAll(s.dir)
}
