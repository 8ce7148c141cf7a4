package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// services registers every service at both servers, and its REST form. A new
// service is one line.
var services = []struct {
	grpc func(*Server, grpc.ServiceRegistrar)
	rest func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error
}{
	{func(s *Server, g grpc.ServiceRegistrar) { pb.RegisterDeviceServiceServer(g, &devices{s: s}) }, pb.RegisterDeviceServiceHandler},
	{func(s *Server, g grpc.ServiceRegistrar) { pb.RegisterCommandServiceServer(g, &commands{s: s}) }, pb.RegisterCommandServiceHandler},
	{func(s *Server, g grpc.ServiceRegistrar) { pb.RegisterCommandBatchServiceServer(g, &batches{s: s}) }, pb.RegisterCommandBatchServiceHandler},
	{func(s *Server, g grpc.ServiceRegistrar) { pb.RegisterTelemetryServiceServer(g, &telemetry{s: s}) }, pb.RegisterTelemetryServiceHandler},
	{func(s *Server, g grpc.ServiceRegistrar) { pb.RegisterPresenceServiceServer(g, &presence{s: s}) }, pb.RegisterPresenceServiceHandler},
	{func(s *Server, g grpc.ServiceRegistrar) { pb.RegisterDeadLetterServiceServer(g, newDeadLetters(s)) }, pb.RegisterDeadLetterServiceHandler},
	{func(s *Server, g grpc.ServiceRegistrar) { pb.RegisterTokenServiceServer(g, &tokens{s: s}) }, pb.RegisterTokenServiceHandler},
	{func(s *Server, g grpc.ServiceRegistrar) { pb.RegisterBridgeServiceServer(g, &bridges{s: s}) }, pb.RegisterBridgeServiceHandler},
}

// Handler answers REST: /v1/tenants/… as the annotations in proto/ say, and
// /openapi.json, which describes it and needs no token. It works while Serve
// runs.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(pb.OpenAPI()))
	})
	mux.HandleFunc("/", s.serveREST)
	return mux
}

// openREST makes the gateway on the local connection.
func (s *Server) openREST() (*runtime.ServeMux, error) {
	none := func(string) (string, bool) { return "", false }
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &restJSON{runtime.JSONPb{MarshalOptions: protojson.MarshalOptions{}}}),
		runtime.WithErrorHandler(restError), runtime.WithRoutingErrorHandler(routingError), runtime.WithStreamErrorHandler(streamError),
		runtime.WithForwardResponseOption(beforeAnswer),
		// Of a request's headers only the authorization goes on, and none comes back.
		runtime.WithIncomingHeaderMatcher(none), runtime.WithOutgoingHeaderMatcher(none), runtime.WithOutgoingTrailerMatcher(none),
		// A POST is a POST.
		runtime.WithDisablePathLengthFallback(), runtime.WithDisableHTTPMethodOverride(),
	)
	for _, service := range services {
		if err := service.rest(context.Background(), mux, s.local.conn); err != nil {
			return nil, err
		}
	}
	return mux, nil
}

// serveREST bounds what a request may take of the server and hands it to the
// gateway.
func (s *Server) serveREST(w http.ResponseWriter, r *http.Request) {
	limit := 2 * int64(s.cfg.MaxRequestBytes) // base64 and JSON make a message longer
	control := http.NewResponseController(w)
	if r.ContentLength > limit {
		p := problemOf(status.Newf(codes.InvalidArgument, "the body is %d bytes long, the limit is %d", r.ContentLength, limit))
		p.Status, p.Title = http.StatusRequestEntityTooLarge, http.StatusText(http.StatusRequestEntityTooLarge)
		writeProblem(w, p)
		return
	}
	if r.ContentLength != 0 {
		r.Body = &timedBody{ReadCloser: http.MaxBytesReader(w, r.Body, limit), control: control}
		_ = control.SetReadDeadline(time.Now().Add(s.cfg.BodyTimeout))
	}
	out := http.ResponseWriter(&timedWriter{ResponseWriter: w, control: control, timeout: s.cfg.WriteTimeout})
	query := r.URL.Query()
	ctx := withQuery(r.Context(), query)
	var events *eventWriter
	if wantsEvents(r) {
		events = newEventWriter(out, s.cfg.Heartbeat)
		out, ctx = events, context.WithValue(ctx, eventsKey{}, events)
		resume(r.Header.Get("Last-Event-ID"), query)
	}
	r = r.WithContext(ctx) // a shallow copy: the URL is the caller's
	// Names in resource names are escaped just as names in a path are, so the
	// path goes on as it came.
	r.URL = &url.URL{Path: r.URL.EscapedPath(), RawQuery: query.Encode()}
	s.rest.ServeHTTP(out, r)
	if events != nil {
		events.end()
	}
}

// timedBody takes the deadline of a request's body away once it has been read:
// passing it later would cut the answer of a call that lasts.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
}

// Read implements io.Reader.
func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// restError answers a call that failed.
func restError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error) {
	p := problemOf(status.Convert(err))
	var own *runtime.HTTPStatusError
	if errors.As(err, &own) {
		p = problemOf(status.Convert(own.Err))
		p.Status = own.HTTPStatus
	}
	writeProblem(w, p)
}

// routingError answers a path or method that is not there.
func routingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
	p := problemOf(status.Newf(codes.NotFound, "there is nothing at this path; /openapi.json lists what there is"))
	if code == http.StatusMethodNotAllowed {
		p = problemOf(status.Newf(codes.Unimplemented, "%s is not possible here; /openapi.json lists what is", clip(r.Method)))
	}
	p.Status, p.Title = code, http.StatusText(code)
	writeProblem(w, p)
}

// timedWriter gives a reader timeout for each piece of an answer, instead of
// so long for all of it: a stream may last, a reader that takes nothing may not.
type timedWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	begun   bool // a stream of lines, whose header is sent
}

// begin sends the header of a stream of lines, so that the reader knows it is
// connected before there is anything to say.
func (t *timedWriter) begin() error {
	t.begun = true
	t.Header().Set("Content-Type", lineType)
	return t.FlushError()
}

// Write implements http.ResponseWriter.
func (t *timedWriter) Write(p []byte) (int, error) {
	_ = t.control.SetWriteDeadline(time.Now().Add(t.timeout))
	return t.ResponseWriter.Write(p)
}

// WriteHeader gives a stream that was refused the header of any refusal.
func (t *timedWriter) WriteHeader(code int) {
	if t.begun {
		return // a stream that fails says so in its last line
	}
	if t.Header().Get("Content-Type") == problemType {
		problemHeader(t.Header(), code)
	}
	t.ResponseWriter.WriteHeader(code)
}

// FlushError is found by http.ResponseController.
func (t *timedWriter) FlushError() error {
	_ = t.control.SetWriteDeadline(time.Now().Add(t.timeout))
	return t.control.Flush()
}

// wantsEvents reports whether the request asks for server-sent events.
func wantsEvents(r *http.Request) bool {
	for _, accept := range r.Header.Values("Accept") {
		for one := range strings.SplitSeq(accept, ",") {
			kind, _, _ := strings.Cut(one, ";")
			if strings.EqualFold(strings.TrimSpace(kind), eventType) {
				return true
			}
		}
	}
	return false
}
