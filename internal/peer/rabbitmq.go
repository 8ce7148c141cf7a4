//go:build unix

package peer

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/internal/rabbitmq"
)

// RabbitMQ is a broker of a test's own: its node, its files and its port mapper are
// nobody else's, and listen on loopback only. Its AMQP 1.0 plugin is on; the user
// "guest" has the password "guest".
type RabbitMQ struct {
	Addr string // of AMQP, which stays the same across restarts

	t    testing.TB
	dir  string
	env  []string
	node *exec.Cmd
	log  *bytes.Buffer
}

// StartRabbitMQ starts a broker with durable quorum queues of these names, and ends
// it with the test. A machine without one skips the test, as Command does.
func StartRabbitMQ(t testing.TB, queues ...string) *RabbitMQ {
	t.Helper()
	epmd := Command(t, "epmd")
	if _, err := os.Stat(rabbitmq.Program); err != nil {
		missing(t, "program rabbitmq-server")
	}
	ports := freePorts(t, 2)
	r := &RabbitMQ{t: t, dir: t.TempDir(), Addr: "127.0.0.1:" + ports[0]}
	broker, err := rabbitmq.Prepare(r.dir, r.Addr, ports[1], queues...)
	if err != nil {
		t.Fatal(err)
	}
	r.env = append(os.Environ(), broker.Env...)
	start(t, exec.Command(epmd, broker.Mapper[1:]...), r.dir, r.env, new(bytes.Buffer))
	r.Start()
	if len(queues) > 0 { // a kill soon after a quorum queue was declared has the broker forget its only member: it comes back without a leader
		_ = syscall.Kill(-r.node.Process.Pid, syscall.SIGTERM)
		_ = r.node.Cancel()
		r.Start()
	}
	return r
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
	r.node = exec.Command(rabbitmq.Program)
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
