package https_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/https"
)

// carrying is a door that hands WebSockets at /echo to the test.
func carrying(t *testing.T, cfg https.Config) (h *house, conns chan net.Conn) {
	t.Helper()
	conns = make(chan net.Conn, 1)
	cfg.WebSockets = []https.WebSocket{{Path: "/echo", Subprotocol: "echo", Serve: func(c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(patience))
		conns <- c
	}}}
	return open(t, cfg, &adaptertest.Gate{}), conns
}

// dialWeb opens a WebSocket as the page of an origin, "" for a program.
func dialWeb(t *testing.T, h *house, path, subprotocol, origin string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	header := http.Header{}
	if origin != "" {
		header.Set("Origin", origin)
	}
	dialer := websocket.Dialer{HandshakeTimeout: patience, Subprotocols: []string{"other", subprotocol}}
	ws, response, err := dialer.Dial("ws"+strings.TrimPrefix(h.base, "http")+path, header)
	if err == nil {
		t.Cleanup(func() { ws.Close() })
		_ = errors.Join(ws.SetReadDeadline(time.Now().Add(patience)), ws.SetWriteDeadline(time.Now().Add(patience)))
	}
	return ws, response, err
}

func TestWebSocketRefusals(t *testing.T) {
	h, conns := carrying(t, https.Config{Origins: []string{"https://dash.example"}})
	for _, c := range []struct {
		path, subprotocol, origin string
		status                    int
	}{
		{"/echo", "echo", "", 101}, {"/echo", "echo", h.base, 101}, {"/echo", "echo", "https://dash.example", 101},
		{"/echo", "echo", "https://evil.example", 403}, {"/echo", "echo", "null", 403}, {"/echo", "echo", "https://dash.example.evil.example", 403},
		{"/echo", "mqtt", "", 400}, {"/other", "echo", "", 404},
	} {
		ws, response, err := dialWeb(t, h, c.path, c.subprotocol, c.origin)
		if response == nil || response.StatusCode != c.status {
			t.Errorf("%+v: %v, %v", c, response, err)
			continue
		}
		if c.status == 101 {
			if ws.Subprotocol() != "echo" {
				t.Errorf("%+v: subprotocol %q", c, ws.Subprotocol())
			}
			(<-conns).Close()
		}
	}
	r := h.do("GET", "/echo", "")
	if p := r.problem(t); r.status != 426 || !strings.Contains(p.Detail, "echo") || r.header.Get("Upgrade") != "websocket" {
		t.Errorf("an ordinary request: %d %+v", r.status, p)
	}
	anybody, conns := carrying(t, https.Config{Origins: []string{"*"}})
	if _, _, err := dialWeb(t, anybody, "/echo", "echo", "https://evil.example"); err != nil {
		t.Errorf("any origin: %v", err)
	}
	(<-conns).Close()
}

// TestWebSocketIsAStream: bounds of messages and frames mean nothing, pings are
// answered, and our end arrives as a close frame.
func TestWebSocketIsAStream(t *testing.T) {
	h, conns := carrying(t, https.Config{})
	ws, _, err := dialWeb(t, h, "/echo", "echo", "")
	if err != nil {
		t.Fatal(err)
	}
	conn := <-conns
	sent := bytes.Repeat([]byte("0123456789"), 10_000)
	go func() {
		w, _ := ws.NextWriter(websocket.BinaryMessage) // in many frames
		_, _ = w.Write(sent[:70_000])
		_ = errors.Join(w.Close(), ws.WriteMessage(websocket.BinaryMessage, nil), ws.WriteMessage(websocket.PingMessage, nil),
			ws.WriteMessage(websocket.BinaryMessage, sent[70_000:]))
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("received what was sent: %v, %v", bytes.Equal(got, sent), err)
	}
	if n, err := conn.Write([]byte("last words")); n != 10 || err != nil {
		t.Fatal(n, err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("x")); err == nil {
		t.Error("written after CloseWrite")
	}
	kind, words, err := ws.ReadMessage()
	if err != nil || kind != websocket.BinaryMessage || string(words) != "last words" {
		t.Errorf("%d %q %v", kind, words, err)
	}
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("the end: %v", err)
	}
	ws.Close()
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("lingering: %v", err)
	}
	conn.Close()
}

// TestWebSocketEnds: how the other side's end is seen, and a deadline's.
func TestWebSocketEnds(t *testing.T) {
	h, conns := carrying(t, https.Config{})
	for name, c := range map[string]struct {
		do   func(*websocket.Conn, net.Conn)
		want error
	}{
		"orderly": {func(ws *websocket.Conn, _ net.Conn) {
			_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseGoingAway, ""), time.Now().Add(patience))
		}, io.EOF},
		"lost":     {func(ws *websocket.Conn, _ net.Conn) { ws.NetConn().Close() }, io.ErrUnexpectedEOF},
		"deadline": {func(_ *websocket.Conn, c net.Conn) { _ = c.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
	} {
		ws, _, err := dialWeb(t, h, "/echo", "echo", "")
		if err != nil {
			t.Fatal(err)
		}
		conn := <-conns
		c.do(ws, conn)
		for range 1100 { // again and again: it does not panic and does not recover
			if _, err = conn.Read(make([]byte, 1)); err == nil {
				t.Fatalf("%s: read something", name)
			}
		}
		var lost *websocket.CloseError
		if !errors.Is(err, c.want) && !(name == "lost" && errors.As(err, &lost)) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "deadline" {
			if _, err := conn.Write([]byte("bye")); err != nil {
				t.Errorf("the last words cannot be written: %v", err)
			}
		}
		conn.Close()
	}
	ws, _, err := dialWeb(t, h, "/echo", "echo", "")
	if err != nil {
		t.Fatal(err)
	}
	conn := <-conns
	defer conn.Close()
	if err := ws.WriteMessage(websocket.TextMessage, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("text is taken")
	}
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseUnsupportedData) {
		t.Errorf("text is told %v", err)
	}
}
