package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/tributary-iot/tributary/device"
)

// caller is who makes a call: the operator, or somebody with a token.
type caller struct {
	token device.Token    // zero for the operator
	life  context.Context // ends with the token; nil for the operator
}

// String names the caller in logs and as the sender of commands.
func (c caller) String() string {
	if c.life == nil {
		return sender
	}
	return "token " + c.token.Name
}

type callerKey struct{}

// callerOf is who makes the call of ctx.
func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// identify says who calls by the bearer token shown.
func (s *Server) identify(ctx context.Context) (caller, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get("authorization") {
		scheme, text, _ := strings.Cut(v, " ")
		if !strings.EqualFold(scheme, "bearer") {
			continue
		}
		if sum := sha256.Sum256([]byte(text)); subtle.ConstantTimeCompare(sum[:], s.tokenSum[:]) == 1 {
			return caller{}, nil
		}
		if s.needs.Tokens != nil {
			token, life, err := s.needs.Tokens.Verify(ctx, text)
			return caller{token, life}, err
		}
	}
	return caller{}, device.Errorf(device.Unauthenticated, "this call needs authorization: Bearer TOKEN, where TOKEN is an API token "+
		"(tributary token create), or the one in admin.token of the server's data directory")
}

// errTokenEnded is why a call under way is ended.
var errTokenEnded = device.Errorf(device.Unauthenticated, "the token was removed or has expired")

// as is the context of a call: it knows the caller, and ends with its token.
func (c caller) as(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx = context.WithValue(ctx, callerKey{}, c)
	if c.life == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(c.life, func() { cancel(errTokenEnded) })
	return ctx, func() { unhook(); cancel(nil) }
}

// may refuses a request that is not for the caller.
func (c caller) may(req any) error {
	if c.life == nil {
		return nil
	}
	return maySee(c.token, req)
}

// guardedStream is a stream that is its caller's: requests are checked as they
// come, and nothing is sent once the token has ended.
type guardedStream struct {
	grpc.ServerStream
	ctx    context.Context
	caller caller
}

// Context implements grpc.ServerStream.
func (g *guardedStream) Context() context.Context { return g.ctx }

// RecvMsg implements grpc.ServerStream.
func (g *guardedStream) RecvMsg(m any) error {
	if err := g.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return g.caller.may(m)
}

// SendMsg implements grpc.ServerStream.
func (g *guardedStream) SendMsg(m any) error {
	if context.Cause(g.ctx) == errTokenEnded {
		return errTokenEnded
	}
	return g.ServerStream.SendMsg(m)
}
