//go:build unix

package peer

import (
	"bytes"
	"context"
	"crypto/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// RabbitMQ is a broker of a test's own: its node, its files and its port mapper are
// nobody else's, and listen on loopback only. Its AMQP 1.0 plugin is on; the user
// "guest" has the password "guest".
type RabbitMQ struct {
	Addr string // of AMQP, which stays the same across restarts

	t      testing.TB
	server string // the program
	dir    string
	env    []string
	node   *exec.Cmd
	log    *bytes.Buffer
}

// rabbitBin is where Debian keeps the program itself: the one on the PATH wants to
// be root and runs it as another user.
const rabbitBin = "/usr/lib/rabbitmq/bin/rabbitmq-server"

// StartRabbitMQ starts a broker with durable quorum queues of these names, and ends
// it with the test. A machine without one skips the test, as Command does.
func StartRabbitMQ(t testing.TB, queues ...string) *RabbitMQ {
	t.Helper()
	epmd := Command(t, "epmd")
	if _, err := os.Stat(rabbitBin); err != nil {
		missing(t, "program rabbitmq-server")
	}
	ports := freePorts(t, 2)
	r := &RabbitMQ{t: t, server: rabbitBin, dir: t.TempDir(), Addr: "127.0.0.1:" + ports[0]}
	plugins := filepath.Join(r.dir, "enabled_plugins")
	for file, text := range map[string]string{
		plugins:                                   "[rabbitmq_amqp1_0].\n",
		filepath.Join(r.dir, "rabbitmq.conf"):     "listeners.tcp.default = " + r.Addr + "\nlog.console = true\nlog.console.level = warning\nlog.file = false\nload_definitions = " + filepath.Join(r.dir, "definitions.json") + "\n",
		filepath.Join(r.dir, "definitions.json"):  definitions(queues),
		filepath.Join(r.dir, ".erlang.cookie"):    rand.Text() + "\n",
		filepath.Join(r.dir, "rabbitmq-env.conf"): "",
		filepath.Join(r.dir, "erl_inetrc"):        "",
		filepath.Join(r.dir, "advanced.config"):   "[].\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	r.env = append(os.Environ(),
		"HOME="+r.dir, "RABBITMQ_NODENAME=trib-"+strings.ToLower(rand.Text()[:8])+"@localhost",
		"RABBITMQ_NODE_PORT="+ports[0], "ERL_EPMD_PORT="+ports[1], "ERL_EPMD_ADDRESS=127.0.0.1", "ERL_CRASH_DUMP="+os.DevNull,
		"RABBITMQ_MNESIA_BASE="+filepath.Join(r.dir, "mnesia"), "RABBITMQ_LOG_BASE="+filepath.Join(r.dir, "log"),
		"RABBITMQ_CONFIG_FILE="+filepath.Join(r.dir, "rabbitmq"), "RABBITMQ_CONF_ENV_FILE="+filepath.Join(r.dir, "rabbitmq-env.conf"),
		"RABBITMQ_ADVANCED_CONFIG_FILE="+filepath.Join(r.dir, "advanced"), "RABBITMQ_ENABLED_PLUGINS_FILE="+plugins,
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
	)
	start(t, exec.Command(epmd, "-address", "127.0.0.1", "-port", ports[1]), r.dir, r.env, new(bytes.Buffer))
	r.Start()
	return r
}

// definitions are the queues, and who may use them, in the form the broker imports.
func definitions(queues []string) string {
	var all []string
	for _, name := range queues {
		all = append(all, `{"name": "`+name+`", "vhost": "/", "durable": true, "auto_delete": false, "arguments": {"x-queue-type": "quorum"}}`)
	}
	return `{"vhosts": [{"name": "/"}], "users": [{"name": "guest", "password": "guest", "tags": "administrator"}],
		"permissions": [{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
		"queues": [` + strings.Join(all, ", ") + `]}`
}

// Start starts the broker again, and waits until it takes connections. A port that
// somebody else has just now costs it another try.
func (r *RabbitMQ) Start() {
	r.t.Helper()
	for range 5 {
		if r.try() {
			return
		}
	}
	r.t.Fatalf("RabbitMQ ended before it was ready:\n%s", r.log)
}

func (r *RabbitMQ) try() bool {
	r.t.Helper()
	r.log = &bytes.Buffer{}
	r.node = exec.Command(r.server)
	ended := start(r.t, r.node, r.dir, append(r.env, "RABBITMQ_DIST_PORT="+freePorts(r.t, 1)[0]), r.log)
	deadline := time.Now().Add(10 * time.Minute) // it takes seconds, and much longer on a machine that is busy
	for {
		if conn, err := net.Dial("tcp", r.Addr); err == nil {
			conn.Close()
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(50 * time.Millisecond): // between two looks
		}
		if time.Now().After(deadline) {
			r.t.Fatal("RabbitMQ does not begin to listen")
		}
	}
}

// Kill ends the broker as a crash would, and returns when nothing listens there.
func (r *RabbitMQ) Kill() {
	end(r.node)
	for {
		conn, err := net.Dial("tcp", r.Addr)
		if err != nil {
			return
		}
		conn.Close()
		time.Sleep(time.Millisecond) // the emulator dies after the script that started it
	}
}

// start runs a program in a process group of its own until the test ends; the
// channel is closed when it has ended.
func start(t testing.TB, cmd *exec.Cmd, dir string, env []string, log *bytes.Buffer) <-chan struct{} {
	t.Helper()
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // what it left behind may hold the pipe
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	cmd.Cancel = func() error { <-ended; return nil }
	t.Cleanup(func() { end(cmd) })
	return ended
}

// end kills a program's group, and waits until it is gone.
func end(cmd *exec.Cmd) {
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	_ = cmd.Cancel()
}

// freePorts answers ports of the loopback that were free a moment ago.
func freePorts(t testing.TB, n int) (ports []string) {
	t.Helper()
	for range n {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // all of them are held until all are found
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	return ports
}
