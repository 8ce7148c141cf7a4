// Package natsdoor lets stream consumers on the network read one stream of the
// embedded server, and nothing else.
//
// Readers are connected to an account of their own, which holds no stream. The
// porter in this package sits in that account and in the one of the streams: it
// answers the JetStream requests a reader of the stream needs, passes on those
// that are safe, written anew, and refuses the rest. Messages do not go through
// it: a pull is passed on with a reply subject that the server itself delivers
// to the reader (embedded.Delivery), so that it sees who reads, who is slow and
// who is gone.
package natsdoor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// Server is the embedded server (pipeline/embedded.Server).
type Server interface {
	InProcessConn() (net.Conn, error)
	Credentials() (user, password string)
	PorterCredentials() (user, password string)
}

// Config says what is read, and how much readers may take. Server, Stream,
// Root, Inbox and Delivery are required.
type Config struct {
	Server          Server
	Stream          string // the one stream
	Root            string // first level of its subjects
	Inbox, Delivery string // what the server carries from one account to the other (embedded.Delivery)

	MaxConsumers int           // of all readers together; default 64
	MaxDurables  int           // of these, how many keep their place on disk; default 16
	MaxIdle      time.Duration // a consumer nobody pulls from for so long goes; default and limit 1 h
	MaxAway      time.Duration // the same for one that keeps its place; default 24 h, limit 7 days

	Logger     *slog.Logger          // nil: silent
	Registerer prometheus.Registerer // nil: metrics are kept, not shown
}

func (c Config) withDefaults() (Config, error) {
	if c.Server == nil || c.Stream == "" || c.Root == "" || c.Inbox == "" || c.Delivery == "" {
		return c, errors.New("natsdoor: server, stream, root, inbox and delivery are needed")
	}
	c.MaxConsumers = cmp.Or(c.MaxConsumers, 64)
	c.MaxDurables = cmp.Or(c.MaxDurables, 16)
	c.MaxIdle = cmp.Or(c.MaxIdle, time.Hour)
	c.MaxAway = cmp.Or(c.MaxAway, 24*time.Hour)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Limits of what waits for the porter; what does not fit is dropped, and the
// reader asks again.
const (
	maxWaiting      = 8192
	maxWaitingBytes = 8 << 20
	maxRequest      = 64 << 10
	requestTimeout  = 5 * time.Second
)

// Porter carries the requests of readers.
type Porter struct {
	cfg     Config
	metrics *metrics
	inside  *nats.Conn // in the account of the streams
	js      jetstream.JetStream
	outside *nats.Conn // among the readers
	ledger  ledger
	making  sync.Mutex
}

// Open connects the porter; it works until Close. ctx bounds the opening only.
func Open(ctx context.Context, cfg Config) (*Porter, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &Porter{cfg: cfg, metrics: newMetrics(cfg.Registerer)}
	if err := p.open(ctx); err != nil {
		p.disconnect()
		return nil, fmt.Errorf("natsdoor: %w", err)
	}
	return p, nil
}

func (p *Porter) open(ctx context.Context) (err error) {
	user, password := p.cfg.Server.Credentials()
	if p.inside, err = p.connect("inside", user, password, p.reload); err != nil {
		return err
	}
	if p.js, err = jetstream.New(p.inside); err != nil {
		return err
	}
	if err := p.load(ctx); err != nil {
		return err
	}
	user, password = p.cfg.Server.PorterCredentials()
	if p.outside, err = p.connect("outside", user, password, nil); err != nil {
		return err
	}
	for subject, on := range map[string]nats.MsgHandler{
		apiPrefix + "INFO":                                     p.onAPI,
		apiPrefix + "STREAM.>":                                 p.onAPI,
		apiPrefix + "CONSUMER.CREATE.>":                        p.onAPI,
		apiPrefix + "CONSUMER.DURABLE.CREATE.>":                p.onAPI,
		apiPrefix + "CONSUMER.INFO.>":                          p.onAPI,
		apiPrefix + "CONSUMER.DELETE.>":                        p.onAPI,
		apiPrefix + "CONSUMER.MSG.NEXT." + p.cfg.Stream + ".*": p.onPull,
		ackPrefix + p.cfg.Stream + ".>":                        p.onAck,
	} {
		sub, err := p.outside.Subscribe(subject, on)
		if err != nil {
			return err
		}
		if err := sub.SetPendingLimits(maxWaiting, maxWaitingBytes); err != nil {
			return err
		}
	}
	return p.outside.FlushTimeout(requestTimeout)
}

func (p *Porter) connect(side, user, password string, back func()) (*nats.Conn, error) {
	return nats.Connect("",
		nats.Name("tributary nats door "+side), nats.InProcessServer(p.cfg.Server), nats.UserInfo(user, password),
		nats.MaxReconnects(-1), nats.ReconnectWait(250*time.Millisecond), nats.ReconnectBufSize(-1), nats.IgnoreAuthErrorAbort(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			p.metrics.requests.WithLabelValues("any", "dropped").Inc()
			p.cfg.Logger.Debug("readers ask faster than they are answered", "part", side, "error", err)
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			if back != nil {
				back()
			}
		}))
}

// reload learns again which consumers there are, after the server was restarted.
func (p *Porter) reload() {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	if err := p.load(ctx); err != nil {
		p.cfg.Logger.Warn("cannot list the readers' consumers", "error", err)
	}
}

// Healthy reports a porter that cannot carry.
func (p *Porter) Healthy() error {
	if !p.inside.IsConnected() || !p.outside.IsConnected() {
		return errors.New("natsdoor: not connected to the embedded server")
	}
	return nil
}

// Close stops answering readers. What they have asked for already still
// arrives. A second call does nothing.
func (p *Porter) Close(context.Context) error {
	p.disconnect()
	return nil
}

func (p *Porter) disconnect() {
	for _, nc := range []*nats.Conn{p.outside, p.inside} {
		if nc != nil {
			nc.Close()
		}
	}
}

// onPull passes a pull on: messages go from the server to the reader. Headers
// are not passed on, because some of them are orders to the server.
func (p *Porter) onPull(m *nats.Msg) {
	name := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	delivery, ok := p.delivery(m.Reply)
	if !ok || len(m.Data) > maxRequest || !p.ledger.has(name) {
		p.metrics.requests.WithLabelValues("pull", "refused").Inc()
		return
	}
	p.metrics.requests.WithLabelValues("pull", "passed").Inc()
	_ = p.inside.PublishMsg(&nats.Msg{Subject: m.Subject, Reply: delivery, Data: m.Data})
}

// onAck passes an acknowledgement on, of consumers of readers only.
func (p *Porter) onAck(m *nats.Msg) {
	name, _, _ := strings.Cut(m.Subject[len(ackPrefix+p.cfg.Stream+"."):], ".")
	delivery, ok := p.delivery(m.Reply)
	if m.Reply != "" && !ok || len(m.Data) > maxRequest || !p.ledger.has(name) {
		p.metrics.requests.WithLabelValues("ack", "refused").Inc()
		return
	}
	p.metrics.requests.WithLabelValues("ack", "passed").Inc()
	_ = p.inside.PublishMsg(&nats.Msg{Subject: m.Subject, Reply: delivery, Data: m.Data})
}

// delivery is where, in the account of the streams, something is published that
// is to reach a reader's inbox; ok is false for any other subject.
func (p *Porter) delivery(reply string) (string, bool) {
	rest, ok := strings.CutPrefix(reply, p.cfg.Inbox)
	if !ok || rest == "" || len(rest) > 256 || strings.ContainsAny(rest, "*> \t\r\n") {
		return "", false
	}
	return p.cfg.Delivery + rest, true
}
