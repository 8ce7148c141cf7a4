package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/tributary-iot/tributary/device"
)

// guard stands around every call: it asks for the token, keeps a panic to the
// one call, turns errors into statuses, logs what is ours and counts all.
func (s *Server) guard(ctx context.Context, method string, call func() error) (err error) {
	start := time.Now()
	s.metrics.running.WithLabelValues(method).Inc()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		told := toStatus(err)
		code := status.Code(told)
		if code == codes.Internal || code == codes.Unavailable {
			s.cfg.Logger.Error("call failed", "method", method, "code", code.String(), "remote", peerOf(ctx), "error", err)
		}
		s.metrics.running.WithLabelValues(method).Dec()
		s.metrics.calls.WithLabelValues(method, code.String()).Inc()
		s.metrics.seconds.WithLabelValues(method).Observe(time.Since(start).Seconds())
		err = told
	}()
	if err := s.authorize(ctx, method); err != nil {
		return err
	}
	return call()
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	err = s.guard(ctx, info.FullMethod, func() (err error) {
		resp, err = handler(ctx, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return s.guard(stream.Context(), info.FullMethod, func() error { return handler(srv, stream) })
}

// authorize asks for the token. Health is open, so that a supervisor needs no
// secret to see whether the server lives; reflection is not.
func (s *Server) authorize(ctx context.Context, method string) error {
	if strings.HasPrefix(method, "/grpc.health.v1.Health/") {
		return nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get("authorization") {
		scheme, token, _ := strings.Cut(v, " ")
		if sum := sha256.Sum256([]byte(token)); strings.EqualFold(scheme, "bearer") &&
			subtle.ConstantTimeCompare(sum[:], s.tokenSum[:]) == 1 {
			return nil
		}
	}
	return device.Errorf(device.Unauthenticated,
		"this call needs the metadata authorization: Bearer TOKEN, where TOKEN is in admin.token of the server's data directory")
}

func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return ""
}
