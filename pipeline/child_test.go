package pipeline

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// childConfig names its configuration to a NATS server that is a process of its own.
const childConfig = "TRIBUTARY_TEST_NATS_CONFIG"

// TestNATSChild is that process, until its standard input ends. Run by itself it does
// nothing.
func TestNATSChild(t *testing.T) {
	file := os.Getenv(childConfig)
	if file == "" {
		return
	}
	o, err := natsserver.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	o.NoSigs, o.NoLog = true, true
	s, err := natsserver.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server did not start")
	}
	cluster := 0
	if at := s.ClusterAddr(); at != nil {
		cluster = at.Port
	}
	fmt.Printf("AT %d %d %d\n", s.Addr().(*net.TCPAddr).Port, s.MonitorAddr().Port, cluster)
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0) // the test that began it is gone
}

// childNATS is a NATS server that can be killed, and begun again at the same ports. One
// on a disk that fails is always a process of its own: a process that begins another
// while it has files on a filesystem it serves itself may wait for itself.
type childNATS struct {
	t                   *testing.T
	name, more          string // more: of its configuration
	port, http, cluster int
	cmd                 *exec.Cmd
	stdin               io.Closer
}

func startChild(t *testing.T, dir string) *childNATS {
	t.Helper()
	c := &childNATS{t: t, name: "child", port: -1, http: -1}
	c.start(dir)
	t.Cleanup(c.kill)
	return c
}

// childCluster starts one server for each directory, n0 and so on.
func childCluster(t *testing.T, dirs ...string) (all []*childNATS) {
	t.Helper()
	for i, dir := range dirs {
		var routes []string
		for j := range len(dirs) - 1 { // as many as there will be others, so that it knows its size: see routesTo
			at := j + 1
			if j < len(all) {
				at = all[j].cluster
			}
			routes = append(routes, fmt.Sprintf(`"nats://127.0.0.1:%d"`, at))
		}
		c := &childNATS{t: t, name: fmt.Sprintf("n%d", i), port: -1, http: -1}
		c.more = fmt.Sprintf("cluster { name: %q, listen: \"127.0.0.1:-1\", routes: [%s] }", t.Name(), strings.Join(routes, ", "))
		c.start(dir)
		t.Cleanup(c.kill)
		all = append(all, c)
	}
	eventually(t, "the cluster has a leader that hears all its members", func() bool {
		return slices.ContainsFunc(all, func(c *childNATS) bool {
			var said struct {
				Meta struct {
					Leader   string `json:"leader"`
					Replicas []struct {
						Current bool `json:"current"`
					} `json:"replicas"`
				} `json:"meta_cluster"`
			}
			if err := readPage(t.Context(), c.monitor().Monitor[0], "jsz", &said); err != nil || said.Meta.Leader != c.name {
				return false
			}
			current := 1
			for _, r := range said.Meta.Replicas {
				if r.Current {
					current++
				}
			}
			return current == len(dirs)
		})
	})
	return all
}

func (c *childNATS) start(dir string) {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, `server_name: %s, host: 127.0.0.1, port: %d, http: "127.0.0.1:%d"
		jetstream { store_dir: "%s", max_file_store: 4G, sync_interval: always }
		accounts { SYS { users: [{user: sys, password: secret}] }, OURS { jetstream: enabled, users: [{user: u, password: p}] } }
		system_account: SYS
		%s`, c.name, c.port, c.http, dir, c.more), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.cmd = exec.Command(os.Args[0], "-test.run=^TestNATSChild$", "-test.timeout=20m")
	c.cmd.Env = append(os.Environ(), childConfig+"="+file)
	stdin, err1 := c.cmd.StdinPipe()
	out, err2 := c.cmd.StdoutPipe()
	c.stdin = stdin
	if err := errors.Join(err1, err2, c.cmd.Start()); err != nil {
		c.t.Fatal(err)
	}
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); said = append(said, lines.Text()) {
		if n, _ := fmt.Sscanf(lines.Text(), "AT %d %d %d", &c.port, &c.http, &c.cluster); n == 3 {
			return
		}
	}
	c.t.Fatalf("the NATS server did not start: %q", said)
}

// kill ends it as a crash would. It may be called twice.
func (c *childNATS) kill() {
	_ = c.stdin.Close()
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

func (c *childNATS) url() string { return fmt.Sprintf("nats://u:p@127.0.0.1:%d", c.port) }

func (c *childNATS) monitor() Verify {
	return Verify{Monitor: []string{fmt.Sprintf("http://127.0.0.1:%d", c.http)}}
}
