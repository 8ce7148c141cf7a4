package api

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// guard stands around every call: it asks who calls and whether they may, keeps
// a panic to the one call, turns errors into statuses, logs what is ours and
// counts all. A call ends with the token it was made with.
func (s *Server) guard(ctx context.Context, method string, call func(context.Context, caller) error) (err error) {
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
	who, err := s.authorize(ctx, method)
	if err != nil {
		return err
	}
	ctx, done := who.as(ctx)
	defer done()
	err = call(ctx, who)
	if err != nil && context.Cause(ctx) == errTokenEnded {
		return errTokenEnded
	}
	return err
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	err = s.guard(ctx, info.FullMethod, func(ctx context.Context, who caller) (err error) {
		if err := who.may(req); err != nil {
			return err
		}
		resp, err = handler(ctx, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return s.guard(stream.Context(), info.FullMethod, func(ctx context.Context, who caller) error {
		return handler(srv, &guardedStream{stream, ctx, who})
	})
}

// authorize says who calls, when they may call that. Health is open, so that a
// supervisor needs no secret to see whether the server lives; reflection is not.
func (s *Server) authorize(ctx context.Context, method string) (caller, error) {
	if strings.HasPrefix(method, "/grpc.health.v1.Health/") {
		return caller{}, nil
	}
	who, err := s.identify(ctx)
	if err == nil && who.life != nil {
		err = mayCall(who.token, method)
	}
	return who, err
}

// peerOf is where a call came from. REST calls come from memory, and the gateway
// says last who was in front of it.
func peerOf(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	if md, _ := metadata.FromIncomingContext(ctx); p.Addr.Network() == "bufconn" && len(md.Get("x-forwarded-for")) > 0 {
		from := md.Get("x-forwarded-for")[0]
		return strings.TrimSpace(from[strings.LastIndexByte(from, ',')+1:])
	}
	return p.Addr.String()
}
