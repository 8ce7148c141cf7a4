package https

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gorilla/websocket"
)

// WebSocket is a protocol spoken over WebSockets at a path of this door.
type WebSocket struct {
	Path        string
	Subprotocol string         // which clients must ask for
	Serve       func(net.Conn) // takes the connection over and returns at once
}

// webSocket is what is spoken at a path; nil: nothing.
func (s *Server) webSocket(path string) *WebSocket {
	for i := range s.cfg.WebSockets {
		if s.cfg.WebSockets[i].Path == path {
			return &s.cfg.WebSockets[i]
		}
	}
	return nil
}

// upgrade makes a WebSocket of the request and hands it on (RFC 6455, section 4.2).
func (s *Server) upgrade(c *call, ws *WebSocket) (int, error) {
	c.route.kind = routeWebSocket
	switch {
	case !websocket.IsWebSocketUpgrade(c.r):
		return 0, &httpError{http.StatusUpgradeRequired, "upgrade-required", "only WebSockets are spoken here, with the subprotocol " + ws.Subprotocol}
	case !slices.Contains(websocket.Subprotocols(c.r), ws.Subprotocol):
		return 0, &httpError{http.StatusBadRequest, "subprotocol", "ask for the subprotocol " + ws.Subprotocol + " (Sec-WebSocket-Protocol)"}
	case !s.mayOpen(c.r):
		return 0, &httpError{http.StatusForbidden, "origin", "pages of this origin may not open WebSockets here: name it in the server's configuration"}
	}
	failed := 0
	upgrader := websocket.Upgrader{
		HandshakeTimeout: s.cfg.WriteTimeout, Subprotocols: []string{ws.Subprotocol},
		WriteBufferPool: &s.webWrites,                             // one that writes nothing has none
		CheckOrigin:     func(*http.Request) bool { return true }, // mayOpen said so
		Error: func(_ http.ResponseWriter, _ *http.Request, status int, reason error) {
			failed = s.refuse(c, &httpError{status, "websocket", reason.Error()})
		},
	}
	conn, err := upgrader.Upgrade(c.w, c.r, nil)
	if err != nil {
		if failed == 0 {
			failed = statusGone // the connection was lost on the way
		}
		return failed, nil
	}
	c.written = true
	ws.Serve(&webConn{ws: conn})
	return http.StatusSwitchingProtocols, nil
}

// mayOpen keeps pages of other origins out: a browser opens WebSockets for any
// page there is, from inside the network it is in. Programs say no origin.
func (s *Server) mayOpen(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.Contains(s.cfg.Origins, "*") {
		return true
	}
	if slices.ContainsFunc(s.cfg.Origins, func(o string) bool { return strings.EqualFold(o, origin) }) {
		return true
	}
	page, err := url.Parse(origin)
	return err == nil && page.Host != "" && strings.EqualFold(page.Host, r.Host)
}
