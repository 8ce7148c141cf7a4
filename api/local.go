package api

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// local is a second gRPC server, in this process's memory only, and the one
// connection to it. REST calls take it, so that they pass the guard of every
// other call and need neither the gRPC port nor its TLS.
type local struct {
	pipe   *bufconn.Listener
	server *grpc.Server
	conn   *grpc.ClientConn
}

// pipeBytes is what one side may write before the other reads.
const pipeBytes = 256 << 10

// openLocal makes the server, with the services of s, and the connection.
func (s *Server) openLocal() (*local, error) {
	l := &local{pipe: bufconn.Listen(pipeBytes), server: grpc.NewServer(s.guards()...)}
	s.register(l.server)
	var err error
	l.conn, err = grpc.NewClient("passthrough:///local",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.pipe.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // memory
		grpc.WithUnaryInterceptor(checkQueryUnary), grpc.WithStreamInterceptor(s.streamSlots()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
		grpc.WithDisableServiceConfig(), grpc.WithNoProxy())
	if err != nil {
		return nil, fmt.Errorf("api: local connection: %w", err)
	}
	return l, nil
}

// maxAnswerBytes bounds one answer: a page is far smaller, a single message
// with its measurements need not be.
const maxAnswerBytes = 64 << 20

// serve answers until stop.
func (l *local) serve() error {
	if err := l.server.Serve(l.pipe); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// stop ends what is left: the listener in front was drained before.
func (l *local) stop() {
	l.conn.Close()
	l.server.Stop()
	l.pipe.Close()
}
