package bench

import (
	"context"
	"net"
	"os"
	"os/exec"

	"github.com/tributary-iot/tributary/internal/rabbitmq"
)

const (
	rabbitName  = "rabbitmq"
	rabbitQueue = "bench"
)

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
	broker, err := rabbitmq.Prepare(dir, addr, ports[2], rabbitQueue)
	if err != nil {
		return nil, err
	}
	mapper := exec.CommandContext(ctx, broker.Mapper[0], broker.Mapper[1:]...)
	if err := mapper.Start(); err != nil {
		return nil, err
	}
	node := exec.CommandContext(ctx, rabbitmq.Program)
	node.Dir = dir // what it writes when it is ended while it starts
	s, err := start(dir, node, append(broker.Env, "RABBITMQ_DIST_PORT="+ports[1])...)
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
