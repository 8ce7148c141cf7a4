package bench

import (
	"context"
	"crypto/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	rabbitName  = "rabbitmq"
	rabbitQueue = "bench"

	// rabbitBin is where Debian keeps the program itself: the one on the PATH wants
	// to be root, and runs it as another user.
	rabbitBin = "/usr/lib/rabbitmq/bin/rabbitmq-server"

	// rabbitDefinitions is a durable quorum queue, and who may use it.
	rabbitDefinitions = `{"vhosts":[{"name":"/"}],"users":[{"name":"guest","password":"guest","tags":""}],
		"permissions":[{"user":"guest","vhost":"/","configure":".*","write":".*","read":".*"}],
		"queues":[{"name":"` + rabbitQueue + `","vhost":"/","durable":true,"auto_delete":false,"arguments":{"x-queue-type":"quorum"}}]}`
)

// rabbitConf is the configuration of the broker compared with, but for its
// addresses: what it ships with, a quorum queue, and its AMQP 1.0 plugin.
const rabbitConf = "listeners.tcp.default = %ADDR%\nload_definitions = %DIR%/definitions.json\nlog.console = true\nlog.console.level = error\nlog.file = false\n"

// loadRabbitMQ sends what loadAMQP does, to the queue.
func loadRabbitMQ(ctx context.Context, addr string, _ Options) (result, error) {
	return sendAMQP(ctx, addr, amqpSASL{"PLAIN", "\x00guest\x00guest"}, func(string) string { return "/amq/queue/" + rabbitQueue })
}

// startRabbitMQ starts a broker with data, a port mapper and a name of its own, all
// on loopback.
func startRabbitMQ(ctx context.Context) (*server, error) {
	dir, err := os.MkdirTemp("", "tributary-bench-")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	addr := net.JoinHostPort("127.0.0.1", ports[0])
	for file, text := range map[string]string{
		"enabled_plugins": "[rabbitmq_amqp1_0].\n", "definitions.json": rabbitDefinitions, ".erlang.cookie": rand.Text() + "\n",
		"rabbitmq.conf": strings.NewReplacer("%ADDR%", addr, "%DIR%", dir).Replace(rabbitConf), "env.conf": "", "advanced.config": "[].\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o400); err != nil {
			return nil, err
		}
	}
	env := []string{
		"HOME=" + dir, "RABBITMQ_NODENAME=bench-" + strings.ToLower(rand.Text()[:8]) + "@localhost", "RABBITMQ_ALLOW_INPUT=1",
		"RABBITMQ_NODE_PORT=" + ports[0], "RABBITMQ_DIST_PORT=" + ports[1], "ERL_EPMD_PORT=" + ports[2], "ERL_EPMD_ADDRESS=127.0.0.1",
		"ERL_CRASH_DUMP=" + os.DevNull, "RABBITMQ_MNESIA_BASE=" + filepath.Join(dir, "mnesia"), "RABBITMQ_LOG_BASE=" + filepath.Join(dir, "log"),
		"RABBITMQ_CONFIG_FILE=" + filepath.Join(dir, "rabbitmq"), "RABBITMQ_CONF_ENV_FILE=" + filepath.Join(dir, "env.conf"),
		"RABBITMQ_ADVANCED_CONFIG_FILE=" + filepath.Join(dir, "advanced"), "RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(dir, "enabled_plugins"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-noinput -kernel inet_dist_use_interface {127,0,0,1}",
	}
	mapper := exec.CommandContext(ctx, "epmd", "-address", "127.0.0.1", "-port", ports[2])
	if err := mapper.Start(); err != nil {
		return nil, err
	}
	node := exec.CommandContext(ctx, rabbitBin)
	node.Dir = dir // what it writes when it is ended while it starts
	s, err := start(dir, node, env...)
	if s != nil {
		s.helper = mapper
	}
	if err != nil {
		_ = mapper.Process.Kill()
		return nil, err
	}
	s.addresses = map[string]string{"amqp": addr}
	if err := s.await(ctx, listens(addr)); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

// listens says whether somebody does.
func listens(addr string) func() bool {
	return func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
}

// freePorts answers ports of the loopback that were free a moment ago, for
// programs that cannot be asked for one.
func freePorts(n int) (ports []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all are held until all are found
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	return ports, nil
}
