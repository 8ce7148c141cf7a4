package pipeline

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// minServer is the oldest server that has what we need: atomic batches came
// with 2.12, their group fsync with 2.15.
var minServer = [2]int{2, 12}

// minPayload is the least an external server must take to be of use.
const minPayload = 128 << 10

// headerBytes are kept free for the headers we add to a message.
const headerBytes = 1024

// envelopeBytes is what an encoded message may hold beside its payload:
// names, properties, headers and as much again in measurements is refused
// when it does not fit.
const envelopeBytes = 64 << 10

// connect opens one connection. Nothing is buffered while it is away: a
// publish then fails at once and the publisher decides.
func (b *Belt) connect(purpose string) (*nats.Conn, error) {
	opts := []nats.Option{
		nats.Name("tributary " + b.opts.NodeName + " " + purpose),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectBufSize(-1),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			b.log.Warn("nats connection", "part", purpose, "error", err)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.log.Warn("nats connection lost", "part", purpose, "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { b.log.Info("nats connection is back", "part", purpose) }),
	}
	url := b.opts.URL
	if b.opts.Server != nil {
		user, password := b.opts.Server.Credentials()
		url = ""
		opts = append(opts, nats.InProcessServer(b.opts.Server), nats.UserInfo(user, password))
	}
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, fmt.Errorf("pipeline: connect to NATS: %w", err)
	}
	return nc, nil
}

// checkServer says what an external server lacks.
func checkServer(nc *nats.Conn) error {
	if v := nc.ConnectedServerVersion(); !atLeast(v, minServer) {
		return fmt.Errorf("pipeline: the NATS server at %s is version %s; %d.%d or later is needed for atomic batches",
			nc.ConnectedUrlRedacted(), v, minServer[0], minServer[1])
	}
	if !nc.HeadersSupported() {
		return errors.New("pipeline: the NATS server has headers turned off; turn them on (no_header_support: false)")
	}
	if n := nc.MaxPayload(); n < minPayload {
		return fmt.Errorf("pipeline: the NATS server takes messages of at most %d bytes; set max_payload to %d or more", n, 2<<20)
	}
	return nil
}

func atLeast(version string, least [2]int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	if err1 != nil || err2 != nil {
		return false
	}
	return major > least[0] || major == least[0] && minor >= least[1]
}
