package https

import (
	"net/http"
	"net/url"
	"strings"
)

// routeKind is what a path asks for. Its names label the metrics.
type routeKind uint8

const (
	routeNone routeKind = iota
	routeTelemetry
	routeCommands
	routeSettle
	routeResponse
	routeWebSocket // not one of parseRoute
	routeKinds     // how many there are
)

var routeNames = [routeKinds]string{"none", "telemetry", "commands", "settle", "response", "websocket"}

// method is the only one a route takes.
func (k routeKind) method() string {
	if k == routeCommands {
		return http.MethodGet
	}
	return http.MethodPost
}

// route is a path taken apart, percent-decoding done.
type route struct {
	kind    routeKind
	device  string
	channel string // of telemetry
	command string // of settle and response
	verb    string // of settle: "accept", "release" or "reject"
}

const pathPrefix = "/v1/devices/"

// parseRoute takes the path of u apart. RawPath is set only where decoding
// could confuse separators, so most paths are split as they are.
func parseRoute(u *url.URL) (route, bool) {
	if u.RawPath == "" {
		return parsePath(u.Path, func(s string) (string, bool) { return s, true })
	}
	return parsePath(u.EscapedPath(), func(s string) (string, bool) {
		decoded, err := url.PathUnescape(s)
		return decoded, err == nil
	})
}

func parsePath(path string, decode func(string) (string, bool)) (route, bool) {
	path, ok := strings.CutPrefix(path, pathPrefix)
	if !ok {
		return route{}, false
	}
	name, rest, ok := strings.Cut(path, "/")
	if !ok || name == "" {
		return route{}, false
	}
	device, ok := decode(name)
	if !ok {
		return route{}, false
	}
	room, tail, deeper := strings.Cut(rest, "/")
	switch {
	case room == "telemetry":
		channel, ok := decode(tail)
		return route{kind: routeTelemetry, device: device, channel: channel}, ok
	case room == "commands" && !deeper:
		return route{kind: routeCommands, device: device}, true
	case room == "commands":
		return parseCommand(device, tail, decode)
	}
	return route{}, false
}

// parseCommand reads "{id}/response" or "{id}:verb".
func parseCommand(device, tail string, decode func(string) (string, bool)) (route, bool) {
	name, last, deeper := strings.Cut(tail, "/")
	name, ok := decode(name)
	if !ok || name == "" {
		return route{}, false
	}
	if deeper {
		return route{kind: routeResponse, device: device, command: name}, last == "response"
	}
	colon := strings.LastIndexByte(name, ':')
	if colon <= 0 {
		return route{}, false
	}
	r := route{kind: routeSettle, device: device, command: name[:colon], verb: name[colon+1:]}
	switch r.verb {
	case "accept", "release", "reject":
		return r, true
	}
	return route{}, false
}
