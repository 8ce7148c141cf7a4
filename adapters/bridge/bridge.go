package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"

	"github.com/tributary-iot/tributary/adapters"
)

// Bridge is every link of the configuration. It implements adapters.Adapter,
// without a listener.
type Bridge struct {
	links []*link

	stopping context.Context // ends when Shutdown begins: finish what was begun
	stop     context.CancelFunc
	cutting  context.Context // ends when Shutdown's time is over: let go
	cut      context.CancelFunc

	mu      sync.Mutex
	running sync.WaitGroup // links
	served  bool
}

var _ adapters.Adapter = (*Bridge)(nil)

// Open checks the configuration, and that the files it names can be read. It
// connects to nobody: a broker that is away now may be there later.
func Open(cfg Config, gate adapters.Gate) (*Bridge, error) {
	cfg = cfg.withDefaults()
	if err := Validate(cfg.Links); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("bridge: register metrics: %w", err)
	}
	b := &Bridge{}
	b.stopping, b.stop = context.WithCancel(context.Background())
	b.cutting, b.cut = context.WithCancel(context.Background())
	for i := range cfg.Links {
		l := newLink(&cfg, &cfg.Links[i], gate, m)
		u, err := url.Parse(l.URL)
		if err == nil {
			_, err = l.readSecrets(u)
		}
		if err != nil {
			return nil, fmt.Errorf("bridge %s: %w", l.Name, err)
		}
		if u.Scheme == "amqp" && u.User != nil {
			l.log.Warn("the password goes to the broker in the clear: say amqps:// where others might listen")
		}
		b.links = append(b.links, l)
	}
	return b, nil
}

// Addrs implements adapters.Adapter: nothing is listened on.
func (b *Bridge) Addrs() map[string]net.Addr { return nil }

// Serve implements adapters.Adapter: it keeps the links connected.
func (b *Bridge) Serve() error {
	b.mu.Lock()
	if !b.served && b.stopping.Err() == nil {
		for _, l := range b.links {
			b.running.Go(func() { l.run(b.stopping, b.cutting) })
		}
	}
	b.served = true
	b.mu.Unlock()
	b.running.Wait()
	<-b.stopping.Done() // without links there is nothing else to wait for
	return nil
}

// Shutdown implements adapters.Adapter. Every link takes nothing new, waits until
// what it took is stored and answered, gives its commands back and closes.
func (b *Bridge) Shutdown(ctx context.Context) error {
	b.mu.Lock() // Serve adds to running before, or not at all
	b.stop()
	b.mu.Unlock()
	done := make(chan struct{})
	go func() {
		b.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		b.cut()
		return nil
	case <-ctx.Done():
	}
	b.cut()
	<-done
	return ctx.Err()
}

// Down names the links that are not up, each with why; nil when all are.
func (b *Bridge) Down() error {
	var errs []error
	for _, s := range b.Status() {
		switch {
		case s.State == Up:
		case s.Err != "":
			errs = append(errs, fmt.Errorf("%s is down: %.300s", s.Name, s.Err))
		default:
			errs = append(errs, fmt.Errorf("%s is %s", s.Name, s.State))
		}
	}
	return errors.Join(errs...)
}
