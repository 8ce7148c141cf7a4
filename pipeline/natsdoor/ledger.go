package natsdoor

import (
	"context"
	"sync"
)

// readerMark is the metadata of a consumer that a reader made.
const readerMark = "tributary-reader"

// ledger holds the names of the consumers that readers have made. All others
// are the server's own, and are not touched.
type ledger struct {
	mu    sync.Mutex
	names map[string]bool // the value: keeps its place on disk
}

func (l *ledger) has(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.names[name]
	return ok
}

func (l *ledger) set(names map[string]bool) {
	l.mu.Lock()
	l.names = names
	l.mu.Unlock()
}

func (l *ledger) add(name string, durable bool) {
	l.mu.Lock()
	l.names[name] = durable
	l.mu.Unlock()
}

func (l *ledger) remove(name string) {
	l.mu.Lock()
	delete(l.names, name)
	l.mu.Unlock()
}

// count answers how many there are, beside the one named.
func (l *ledger) count(but string) (all, durable int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, kept := range l.names {
		if name == but {
			continue
		}
		all++
		if kept {
			durable++
		}
	}
	return all, durable
}

// load reads the ledger anew: the server lets idle consumers go by itself.
func (p *Porter) load(ctx context.Context) error {
	s, err := p.js.Stream(ctx, p.cfg.Stream)
	if err != nil {
		return err
	}
	names := map[string]bool{}
	list := s.ListConsumers(ctx)
	for info := range list.Info() {
		if info.Config.Metadata[readerMark] != "" {
			names[info.Name] = info.Config.Durable != ""
		}
	}
	if err := list.Err(); err != nil {
		return err
	}
	p.ledger.set(names)
	p.metrics.consumers.Set(float64(len(names)))
	return nil
}
