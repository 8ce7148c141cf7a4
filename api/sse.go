package api

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Server-sent events (WHATWG HTML, section 9.2) are how a stream looks when the
// request accepts text/event-stream: each object is the data of one event, and
// a message's id is its position, so that Last-Event-ID goes on where a reader
// was. Other events are
//
//	end     nothing more can come: do not connect again
//	gap     messages after the last id are gone; the event's own id is where
//	        those that are kept begin. Connect again to have them
//	error   data is the problem; connect again
const eventType = "text/event-stream"

// resumeAfter is the key, in the info of an error, of a position to go on from.
const resumeAfter = "resume_after"

// resume makes a Last-Event-ID the position to subscribe from. What the query
// says is older.
func resume(lastEventID string, query url.Values) {
	if lastEventID != "" {
		query.Set("position", lastEventID)
	}
}

type eventsKey struct{}

// eventWriter makes events of what the gateway writes once a stream has begun,
// and comments while there is nothing to write; anything else it leaves as it is.
type eventWriter struct {
	http.ResponseWriter
	control   *http.ResponseController
	heartbeat time.Duration

	mu        sync.Mutex // one event or comment at a time
	streaming bool
	message   proto.Message  // what the next Write holds
	failed    *status.Status // how the stream failed
	stop      chan struct{}  // closed by end
	beating   sync.WaitGroup
}

func newEventWriter(w http.ResponseWriter, heartbeat time.Duration) *eventWriter {
	return &eventWriter{ResponseWriter: w, control: http.NewResponseController(w), heartbeat: heartbeat, stop: make(chan struct{})}
}

// beforeAnswer is told by the gateway of every message it is about to write,
// and of nil when a stream begins.
func beforeAnswer(ctx context.Context, w http.ResponseWriter, m proto.Message) error {
	w.Header().Set("Cache-Control", "no-store")
	events, ok := w.(*eventWriter)
	if m != nil {
		if ok {
			events.mu.Lock()
			defer events.mu.Unlock()
			events.message = m
		}
		return nil
	}
	if md, begun := runtime.ServerMetadataFromContext(ctx); !begun || md.HeaderMD == nil { // it was refused
		return nil
	}
	if ok {
		return events.begin()
	}
	if lines, ok := w.(*timedWriter); ok {
		return lines.begin()
	}
	return nil
}

// streamError tells the writer how the stream failed, and the gateway the same.
func streamError(ctx context.Context, err error) *status.Status {
	st := status.Convert(err)
	if events, ok := ctx.Value(eventsKey{}).(*eventWriter); ok {
		events.mu.Lock()
		defer events.mu.Unlock()
		events.failed = st
	}
	return st
}

// begin sends the header at once, so that the reader knows it is connected.
func (e *eventWriter) begin() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.Header()
	h.Del("Transfer-Encoding")
	h.Set("Content-Type", eventType)
	h.Set("X-Accel-Buffering", "no") // asks reverse proxies to pass events on at once
	e.streaming = true
	e.beating.Go(e.beat)
	return e.send(": connected\n\n")
}

// beat sends comments, so that proxies see life and we notice who is gone.
func (e *eventWriter) beat() {
	tick := time.NewTicker(e.heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-tick.C:
		}
		e.mu.Lock()
		err := e.send(": keep-alive\n\n")
		e.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// send writes and flushes; e.mu is held.
func (e *eventWriter) send(text string) error {
	if _, err := e.ResponseWriter.Write([]byte(text)); err != nil {
		return err
	}
	return e.control.Flush()
}

// Write makes one event of what is one line of a stream.
func (e *eventWriter) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.streaming {
		return e.ResponseWriter.Write(p)
	}
	if len(p) == 1 && p[0] == '\n' { // between the lines
		return 1, nil
	}
	if err := e.send(e.head() + "data: " + string(p) + "\n\n"); err != nil {
		return 0, err
	}
	return len(p), nil
}

// head is an event's name and id.
func (e *eventWriter) head() string {
	if e.failed != nil {
		if info := infoOf(e.failed); info != nil && info.GetMetadata()[resumeAfter] != "" {
			return "event: gap\nid: " + info.GetMetadata()[resumeAfter] + "\n"
		}
		return "event: error\n"
	}
	if m, ok := e.message.(interface{ GetPosition() string }); ok && m.GetPosition() != "" {
		return "id: " + m.GetPosition() + "\n"
	}
	return ""
}

// WriteHeader leaves the status of what is no stream.
func (e *eventWriter) WriteHeader(code int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.streaming {
		e.ResponseWriter.WriteHeader(code)
	}
}

// FlushError is found by http.ResponseController; events are flushed one by one.
func (e *eventWriter) FlushError() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.control.Flush()
}

// end says that a stream has come to its end, and stops the comments.
func (e *eventWriter) end() {
	close(e.stop)
	e.beating.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.streaming && e.failed == nil {
		_ = e.send("event: end\ndata: {}\n\n")
	}
}
