package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/gorilla/websocket"
)

// idleCase is a way in that connections wait on.
type idleCase struct {
	name      string
	door      string // of the server, as addresses.json names it
	tls       bool
	webSocket bool
}

var idleCases = []idleCase{
	{name: "mosquitto", door: "mqtt"},
	{name: "mqtt-strict", door: "mqtt"},
	{name: "mqtts-strict", door: "mqtts", tls: true},
	{name: "ws-strict", door: "http", webSocket: true},
	{name: "wss-strict", door: "https", tls: true, webSocket: true},
}

// idleDialer makes the connections of a case.
type idleDialer struct {
	idleCase
	addr string
	tls  *tls.Config
}

func (c idleCase) dialer(s *server) (*idleDialer, error) {
	d := &idleDialer{idleCase: c, addr: s.addresses[c.door]}
	if !c.tls {
		return d, nil
	}
	pem, err := os.ReadFile(filepath.Join(s.dir, "tls", "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("the server's authority cannot be read")
	}
	d.tls = &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS13}
	return d, nil
}

// dial makes connection i.
func (d *idleDialer) dial(ctx context.Context, i int) (net.Conn, error) {
	conn, err := dial(ctx, from(net.IPv4(127, 0, 1, byte(1+i/idleSources))), d.addr)
	if err != nil {
		return nil, err
	}
	if d.tls != nil {
		secured := tls.Client(conn, d.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = secured
	}
	if !d.webSocket {
		return conn, nil
	}
	upgrade := websocket.Dialer{
		Subprotocols: []string{"mqtt"}, ReadBufferSize: 512, WriteBufferSize: 512,
		NetDialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}
	ws, _, err := upgrade.DialContext(ctx, "ws://"+d.addr+"/mqtt", nil) // of conn, which is secured already where it is to be
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &webSocketConn{Conn: conn, ws: ws}, nil
}

// webSocketConn is what is said in a WebSocket's frames.
type webSocketConn struct {
	net.Conn
	ws    *websocket.Conn
	frame io.Reader // being read; nil for none
}

func (c *webSocketConn) Write(b []byte) (int, error) {
	return len(b), c.ws.WriteMessage(websocket.BinaryMessage, b)
}

func (c *webSocketConn) Read(b []byte) (n int, err error) {
	for n == 0 && err == nil {
		if c.frame == nil {
			_, c.frame, err = c.ws.NextReader()
		}
		if err == nil {
			if n, err = c.frame.Read(b); errors.Is(err, io.EOF) {
				c.frame, err = nil, nil
			}
		}
	}
	return n, err
}
