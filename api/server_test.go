package api_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

func TestEveryCallNeedsTheToken(t *testing.T) {
	h := open(t)
	for name, auth := range map[string][]string{
		"nothing":       nil,
		"a wrong token": {"Bearer not-the-token"},
		"half of it":    {"Bearer " + token[:10]},
		"no scheme":     {token},
		"basic":         {"Basic " + token},
		"empty":         {""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			for _, v := range auth {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", v)
			}
			_, err := pb.NewDeviceServiceClient(h.conn).GetDevice(ctx, &pb.GetDeviceRequest{Name: "tenants/t/devices/d"})
			wantCode(t, err, codes.Unauthenticated)
			stream, err := pb.NewTelemetryServiceClient(h.conn).Subscribe(ctx, &pb.SubscribeRequest{Parent: "tenants/t/devices/-"})
			if err == nil {
				_, err = stream.Recv()
			}
			wantCode(t, err, codes.Unauthenticated)
			wantCode(t, reflect(ctx, h), codes.Unauthenticated)
		})
	}
	if err := reflect(authorized(t), h); err != nil {
		t.Errorf("reflection with the token: %v", err)
	}
	for _, ctx := range []context.Context{t.Context(), authorized(t)} {
		r, err := healthv1.NewHealthClient(h.conn).Check(ctx, &healthv1.HealthCheckRequest{})
		if err != nil || r.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("health: %v, %v", r, err)
		}
	}
}

// reflect asks for the list of services.
func reflect(ctx context.Context, h *house) error {
	stream, err := reflectionv1.NewServerReflectionClient(h.conn).ServerReflectionInfo(ctx)
	if err != nil {
		return err
	}
	_ = stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
	r, err := stream.Recv()
	if err != nil {
		return err
	}
	_ = stream.CloseSend()
	if n := len(r.GetListServicesResponse().GetService()); n < 4 {
		return errors.New("reflection lists too few services")
	}
	return nil
}

func TestErrorsInGRPCsWords(t *testing.T) {
	h := open(t)
	for _, c := range []struct {
		err  error
		code codes.Code
		text string
	}{
		{device.Errorf(device.Invalid, "why"), codes.InvalidArgument, "why"},
		{device.Errorf(device.Undecodable, "why"), codes.InvalidArgument, "why"},
		{device.Errorf(device.TooLarge, "why"), codes.InvalidArgument, "why"},
		{device.Errorf(device.Unauthenticated, "why"), codes.Unauthenticated, "why"},
		{device.Errorf(device.Forbidden, "why"), codes.PermissionDenied, "why"},
		{device.Errorf(device.NotFound, "why"), codes.NotFound, "why"},
		{device.Errorf(device.Conflict, "why"), codes.AlreadyExists, "why"},
		{device.Errorf(device.Precondition, "why"), codes.FailedPrecondition, "why"},
		{device.Errorf(device.Busy, "why"), codes.ResourceExhausted, "why"},
		{device.Wrap(device.Unavailable, "why", errors.New("password=hunter2")), codes.Unavailable, "why"},
		{errors.New("password=hunter2"), codes.Internal, "internal error"},
		{context.Canceled, codes.Canceled, "the call was cancelled"},
		{context.DeadlineExceeded, codes.DeadlineExceeded, "the call's deadline has passed"},
	} {
		h.devices.get = func(device.ID) error { return c.err }
		_, err := pb.NewDeviceServiceClient(h.conn).GetDevice(authorized(t), &pb.GetDeviceRequest{Name: "tenants/t/devices/d"})
		if s := status.Convert(err); s.Code() != c.code || s.Message() != c.text {
			t.Errorf("%v is told as %s %q, want %s %q", c.err, s.Code(), s.Message(), c.code, c.text)
		}
	}
}

func TestAPanicCostsOneCall(t *testing.T) {
	h := open(t)
	client := pb.NewDeviceServiceClient(h.conn)
	h.devices.get = func(id device.ID) error {
		if id.Device == "bad" {
			panic("hunter2")
		}
		return nil
	}
	_, err := client.GetDevice(authorized(t), &pb.GetDeviceRequest{Name: "tenants/t/devices/bad"})
	if s := status.Convert(err); s.Code() != codes.Internal || s.Message() != "internal error" {
		t.Errorf("a panic is told as %v", err)
	}
	_, err = client.GetDevice(authorized(t), &pb.GetDeviceRequest{Name: "tenants/t/devices/good"})
	wantCode(t, err, codes.NotFound)
}

func TestRequestsAreBounded(t *testing.T) {
	h := open(t)
	_, err := pb.NewCommandServiceClient(h.conn).SendCommand(authorized(t), &pb.SendCommandRequest{
		Parent: "tenants/t/devices/d", Payload: make([]byte, 3<<20),
	})
	wantCode(t, err, codes.ResourceExhausted)
}

func TestOpenChecksItsConfig(t *testing.T) {
	good := api.Needs{Devices: &fakeDevices{}, Commands: &fakeCommands{}, Reader: &fakeStore{}, Feed: &fakeFeed{}}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for name, c := range map[string]struct {
		cfg   api.Config
		needs api.Needs
	}{
		"no token":      {api.Config{Addr: "127.0.0.1:0"}, good},
		"short token":   {api.Config{Addr: "127.0.0.1:0", Token: "short"}, good},
		"nothing":       {api.Config{Addr: "127.0.0.1:0", Token: token}, api.Needs{}},
		"negative":      {api.Config{Addr: "127.0.0.1:0", Token: token, BarrierTimeout: -1}, good},
		"port in use":   {api.Config{Addr: busy.Addr().String(), Token: token}, good},
		"not a port":    {api.Config{Addr: "127.0.0.1:port", Token: token}, good},
		"negative size": {api.Config{Addr: "127.0.0.1:0", Token: token, MaxRequestBytes: -1}, good},
	} {
		if s, err := api.Open(c.cfg, c.needs); err == nil {
			t.Errorf("%s: opened", name)
			_ = s.Shutdown(t.Context())
		}
	}
}

func TestShutdown(t *testing.T) {
	t.Run("before Serve, and twice", func(t *testing.T) {
		s, err := api.Open(api.Config{Addr: "127.0.0.1:0", Token: token},
			api.Needs{Devices: &fakeDevices{}, Commands: &fakeCommands{}, Reader: &fakeStore{}, Feed: &fakeFeed{}})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err := s.Serve(); err != nil {
			t.Errorf("Serve after Shutdown: %v", err)
		}
	})
	t.Run("ends streams, finishes calls", func(t *testing.T) {
		h := open(t)
		h.feed.follow = func(ctx context.Context, _, _ string, _ *device.Position, _ func(device.Stored) error) error {
			<-ctx.Done()
			return ctx.Err()
		}
		stream, err := pb.NewTelemetryServiceClient(h.conn).Subscribe(authorized(t), &pb.SubscribeRequest{Parent: "tenants/t/devices/-"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Header(); err != nil {
			t.Fatal(err)
		}
		if err := h.server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		_, err = stream.Recv()
		if wantCode(t, err, codes.Unavailable); !strings.Contains(status.Convert(err).Message(), "stopping") {
			t.Errorf("a stream ended by our stopping is told %v", err)
		}
		if err := <-h.served; err != nil {
			t.Errorf("Serve answered %v", err)
		}
	})
	t.Run("cuts what does not end", func(t *testing.T) {
		h := open(t)
		inside, leave := make(chan struct{}), make(chan struct{})
		h.devices.get = func(device.ID) error { close(inside); <-leave; return nil }
		go func() {
			_, _ = pb.NewDeviceServiceClient(h.conn).GetDevice(authorized(t), &pb.GetDeviceRequest{Name: "tenants/t/devices/d"})
		}()
		<-inside
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		time.AfterFunc(100*time.Millisecond, func() { close(leave) })
		if err := h.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown answered %v", err)
		}
	})
}

// TestTLS: what is said in the clear is not answered, nor is TLS 1.1.
func TestTLS(t *testing.T) {
	lent := httptest.NewTLSServer(nil)
	defer lent.Close()
	secure := &tls.Config{Certificates: lent.TLS.Certificates, MinVersion: tls.VersionTLS12}
	h := open(t, func(c *api.Config, _ *api.Needs) { c.TLS = secure })
	roots := x509.NewCertPool()
	roots.AddCert(lent.Certificate())
	for _, c := range []struct {
		name string
		with credentials.TransportCredentials
		code codes.Code
	}{
		{"TLS", credentials.NewTLS(&tls.Config{RootCAs: roots}), codes.OK},
		{"no trust", credentials.NewTLS(&tls.Config{RootCAs: x509.NewCertPool()}), codes.Unavailable},
		{"plain", insecure.NewCredentials(), codes.Unavailable},
	} {
		conn, err := grpc.NewClient(h.server.Addr().String(), grpc.WithTransportCredentials(c.with), grpc.WithDisableServiceConfig(), grpc.WithNoProxy())
		if err != nil {
			t.Fatal(err)
		}
		_, err = healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
		conn.Close()
		if status.Code(err) != c.code {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestConnectionsAreCapped: one connection too many is closed, and its place is
// free again when another has ended.
func TestConnectionsAreCapped(t *testing.T) {
	h := open(t, func(c *api.Config, _ *api.Needs) { c.MaxConnections = 2 })
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", h.server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		return conn
	}
	welcome := func(conn net.Conn) error { // the server's settings, or the end
		_, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") // RFC 9113, section 3.4
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		return err
	}
	first, second := dial(), dial()
	if err := errors.Join(welcome(first), welcome(second)); err != nil {
		t.Fatal(err)
	}
	if err := welcome(dial()); err == nil {
		t.Error("a third connection was taken")
	}
	first.Close()
	for giveUp := time.Now().Add(10 * time.Second); welcome(dial()) != nil; {
		if time.Now().After(giveUp) {
			t.Fatal("the place of a connection that ended stays taken")
		}
	}
}
