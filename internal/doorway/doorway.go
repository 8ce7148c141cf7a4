// Package doorway is what stands before a protocol: a plain and a TLS listener
// of one door, a cap on its connections, and TLS handshakes that a storm of
// connects cannot pile up.
package doorway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	counting "github.com/tributary-iot/tributary/internal/metrics"
)

// Off is the address that closes a listener.
const Off = "off"

// Config says what a door listens on.
type Config struct {
	Name    string      // of the plain listener, "mqtt"; the one with TLS is "mqtts". Also the room of the metrics
	Addr    string      // host:port of the plain listener; "" or Off: none
	TLSAddr string      // host:port of the one with TLS; "" or Off: none
	TLS     *tls.Config // for TLSAddr

	Max     int            // open connections of both together, handshakes included; default 10,000
	Refuse  func(net.Conn) // says to a plain connection above Max that it is one too many; nil: it is closed
	Timeout time.Duration  // the longest a peer takes to begin its TLS handshake, waits for its turn, and takes to end it; default 10 s each

	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil keeps the metrics to ourselves
}

// DefaultMax is how many connections a door has room for, unless told otherwise.
const DefaultMax = 10_000

// Door is a listener of one or two addresses. Each and Accept, of which one is used,
// answer connections whose TLS handshake is done: *tls.Conn, or a plain one.
type Door struct {
	cfg        Config
	listeners  map[string]net.Listener
	tls        *tls.Config
	refused    prometheus.Counter
	sockets    prometheus.Gauge
	handshakes *prometheus.CounterVec

	free  chan struct{} // a place for each open connection
	turns chan struct{} // for handshakes that compute now
	ready chan net.Conn
	each  func(net.Conn)  // takes them instead, where Each was called
	ctx   context.Context // ends with Close
	end   context.CancelFunc
	begin sync.Once
}

var _ net.Listener = (*Door)(nil)

// Open binds the addresses. At least one must be given.
func Open(cfg Config) (*Door, error) {
	plain, err := listen(cfg.Name, cfg.Addr)
	if err != nil {
		return nil, err
	}
	secure, err := listen(cfg.Name+"s", cfg.TLSAddr)
	if err != nil {
		if plain != nil {
			_ = plain.Close()
		}
		return nil, err
	}
	return On(cfg, plain, secure)
}

func listen(name, addr string) (net.Listener, error) {
	if addr == "" || addr == Off {
		return nil, nil
	}
	config := listenConfig()
	l, err := config.Listen(context.Background(), "tcp", addr)
	if err == nil {
		l, err = acceptBare(l)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: cannot listen: %w", name, err)
	}
	return l, nil
}

// On is Open on listeners that are bound already; either may be nil.
func On(cfg Config, plain, secure net.Listener) (*Door, error) {
	if cfg.Max <= 0 {
		cfg.Max = DefaultMax
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := counting.Room{Name: cfg.Name, Registerer: cfg.Registerer}
	d := &Door{
		cfg: cfg, listeners: map[string]net.Listener{},
		refused:    r.Counter("connections_refused_total", "Connections turned away at the connection limit."),
		sockets:    r.Gauge("sockets", "Open connections, handshakes under way included."),
		handshakes: r.CounterVec("tls_handshakes_total", "TLS handshakes by how they ended: done, failed, busy.", "result"),
		free:       make(chan struct{}, cfg.Max),
		turns:      make(chan struct{}, 4*runtime.GOMAXPROCS(0)),
		ready:      make(chan net.Conn),
	}
	d.ctx, d.end = context.WithCancel(context.Background())
	for _, l := range []net.Listener{plain, secure} {
		makeRoom(l, cfg.Max)
	}
	if plain != nil {
		d.listeners[cfg.Name] = plain
	}
	if secure != nil {
		d.listeners[cfg.Name+"s"] = secure
	}
	var err error
	switch {
	case r.Err != nil:
		err = fmt.Errorf("%s: cannot register metrics: %w", cfg.Name, r.Err)
	case len(d.listeners) == 0:
		err = fmt.Errorf("%s: there is no address to listen on", cfg.Name)
	case secure != nil && cfg.TLS == nil:
		err = fmt.Errorf("%ss: there is no certificate", cfg.Name)
	case secure != nil:
		d.tls = cfg.TLS.Clone()
		d.tls.GetConfigForClient = takeTurn
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Addrs names each address as it appears in addresses.json.
func (d *Door) Addrs() map[string]net.Addr {
	all := map[string]net.Addr{}
	for name, l := range d.listeners {
		all[name] = l.Addr()
	}
	return all
}

// Addr is the plain address, and the other when there is none.
func (d *Door) Addr() net.Addr {
	if l := d.listeners[d.cfg.Name]; l != nil {
		return l.Addr()
	}
	return d.listeners[d.cfg.Name+"s"].Addr()
}

// Each gives f every connection that is ready, until Close, from the goroutine that
// accepted it: many that come at once are not handed from one to another. f must return
// soon. It may still be called when Each has returned.
func (d *Door) Each(f func(net.Conn)) {
	d.each = f
	d.open()
	<-d.ctx.Done()
}

// Accept waits for the next connection that is ready; net.ErrClosed after Close.
func (d *Door) Accept() (net.Conn, error) {
	d.begin.Do(d.open)
	select {
	case conn := <-d.ready:
		return conn, nil
	case <-d.ctx.Done():
		return nil, net.ErrClosed
	}
}

// open begins to accept.
func (d *Door) open() {
	for name, l := range d.listeners {
		go d.accept(l, name != d.cfg.Name)
	}
}

// Close ends listening, and handshakes that are under way; connections that
// Each or Accept has answered go on. A second call does nothing.
func (d *Door) Close() error {
	d.end()
	var errs []error
	for _, l := range d.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
