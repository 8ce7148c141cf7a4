package api

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/tributary-iot/tributary/device"
)

// The gateway leaves out query parameters that no field is named by; a
// misspelt ?since= would then answer everything. So REST calls carry what they
// were asked to the one place that knows the call's message.

type queryKey struct{}

func withQuery(ctx context.Context, q url.Values) context.Context {
	return context.WithValue(ctx, queryKey{}, q)
}

func checkQueryUnary(ctx context.Context, method string, req, resp any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if err := checkQuery(ctx, method); err != nil {
		return err
	}
	return call(ctx, method, req, resp, conn, opts...)
}

// checkQuery refuses parameters that are no field of the method's request.
func checkQuery(ctx context.Context, method string) error {
	q, _ := ctx.Value(queryKey{}).(url.Values)
	if len(q) == 0 {
		return nil
	}
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return err
	}
	fields := found.(protoreflect.MethodDescriptor).Input().Fields()
	for key := range q {
		first, _, _ := strings.Cut(key, ".")
		first, _, _ = strings.Cut(first, "[")
		if fields.ByJSONName(first) == nil && fields.ByName(protoreflect.Name(first)) == nil {
			return status.Errorf(codes.InvalidArgument, "there is no parameter %q here; there are: %s", clip(key), fieldNames(fields))
		}
	}
	return nil
}

// fieldNames are the parameters there are, without those the path holds.
func fieldNames(fields protoreflect.FieldDescriptors) string {
	var names []string
	for i := range fields.Len() {
		if n := fields.Get(i).JSONName(); n != "name" && n != "parent" {
			names = append(names, n)
		}
	}
	if slices.Sort(names); len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// streamSlots bounds how many streams REST callers hold at once: each is a
// reader of the stream, and browsers open many.
func (s *Server) streamSlots() grpc.StreamClientInterceptor {
	slots := make(chan struct{}, s.cfg.MaxRESTStreams)
	return func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		if err := checkQuery(ctx, method); err != nil {
			return nil, err
		}
		select {
		case slots <- struct{}{}:
		default:
			return nil, toStatus(device.Errorf(device.Busy, "this server has its %d REST streams open: close one, or use gRPC", cap(slots)))
		}
		context.AfterFunc(ctx, func() { <-slots }) // the request's context ends with the answer
		return open(ctx, desc, conn, method, opts...)
	}
}
