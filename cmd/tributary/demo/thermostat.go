package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// thermostat is one simulated device: a room that cools, a heater that can be
// told to run, and a connection through one door.
type thermostat struct {
	name string
	door doorKind

	mu          sync.Mutex
	temperature float64
	heating     bool
	connected   bool
	sent        int          // readings tried
	acked       map[int]bool // the ledger: readings the server acknowledged, by their number
	lastErr     error
}

// reading is what a thermostat says. N numbers the reading, so that the ledger
// can name it again whatever protocol carried it.
type reading struct {
	Temperature float64 `json:"temperature"`
	Heating     bool    `json:"heating"`
	N           int     `json:"n"`
}

// pace is how often a thermostat says something.
const pace = 200 * time.Millisecond

// live keeps the thermostat connected and talking until ctx ends.
func (t *thermostat) live(ctx context.Context, addresses map[string]string) {
	for ctx.Err() == nil {
		err := t.stay(ctx, addresses)
		t.update(func() { t.connected, t.lastErr = false, err })
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// stay is one connection: it answers when the connection or ctx ends.
func (t *thermostat) stay(ctx context.Context, addresses map[string]string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	link, err := t.door.connect(ctx, addresses[t.door.protocol], t.name)
	if err != nil {
		return err
	}
	defer link.close()
	t.update(func() { t.connected, t.lastErr = true, nil })
	failed := make(chan error, 1)
	var commands sync.WaitGroup
	commands.Go(func() {
		if err := link.serve(ctx, t.obey); err != nil && ctx.Err() == nil {
			failed <- err
		}
	})
	defer commands.Wait()
	defer cancel()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return fmt.Errorf("commands: %w", err)
		case <-tick.C:
			if err := t.report(ctx, link); err != nil {
				return err
			}
		}
	}
}

// report sends one reading and enters it in the ledger once it is acknowledged.
func (t *thermostat) report(ctx context.Context, link link) error {
	var r reading
	t.update(func() {
		drift := -0.08
		if t.heating {
			drift = 0.12
		}
		t.temperature += drift + 0.04*(rand.Float64()-0.5)
		t.sent++
		r = reading{float64(int(t.temperature*100)) / 100, t.heating, t.sent}
	})
	payload, err := json.Marshal(r)
	if err != nil {
		return err
	}
	// A reading under way is waited for even when the play is over, so that the
	// ledger misses no ack.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := link.send(ctx, payload); err != nil {
		return err
	}
	t.update(func() { t.acked[r.N] = true })
	return nil
}

// obey carries out a command and gives its answer.
func (t *thermostat) obey(name string, payload []byte) (status int, answer []byte) {
	var order struct {
		On bool `json:"on"`
	}
	if name != "heat" || json.Unmarshal(payload, &order) != nil {
		return 400, []byte(`{"error":"a thermostat knows heat {\"on\":true|false}"}`)
	}
	t.update(func() { t.heating = order.On })
	return 200, fmt.Appendf(nil, `{"heating":%t}`, order.On)
}

func (t *thermostat) update(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
}

// look is a copy of what the view shows.
func (t *thermostat) look() (temperature float64, heating, connected bool, acked int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.temperature, t.heating, t.connected, len(t.acked), t.lastErr
}
