package https

import (
	"net"
	"net/url"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/internal/doorway"
)

// OpenOn opens a server on a listener of the test's own.
func OpenOn(l net.Listener, cfg Config, gate adapters.Gate) (*Server, error) {
	cfg = cfg.withDefaults()
	door, err := doorway.On(cfg.doorway(), l, nil)
	if err != nil {
		return nil, err
	}
	return openOn(door, cfg, gate)
}

// ParsePath shows what the server makes of a path: kind, device, channel,
// command and verb.
func ParsePath(u *url.URL) ([5]string, bool) {
	r, ok := parseRoute(u)
	return [5]string{routeNames[r.kind], r.device, r.channel, r.command, r.verb}, ok
}
