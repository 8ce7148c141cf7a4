package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// link is one configured connection, for as long as the process lives.
type link struct {
	*Link
	cfg      *Config
	gate     adapters.Gate
	rule     *rule
	speaker  device.Principal // the gateway it is
	metrics  *metrics
	counters *counters
	fleet    *fleet
	log      *slog.Logger
	standing standing
}

// newLink makes a link of a configuration that Validate took.
func newLink(cfg *Config, l *Link, gate adapters.Gate, m *metrics) *link {
	r, _ := newRule(l)
	out := &link{
		Link: l, cfg: cfg, gate: gate, rule: r, metrics: m, counters: m.of(l.Name), log: cfg.Logger.With("bridge", l.Name),
	}
	out.speaker = device.Principal{ID: out.id(), Kind: device.KindGateway, For: l.For}
	out.fleet = newFleet(out)
	out.standing.set(Connecting, nil, time.Time{})
	return out
}

// run keeps the link connected until stopping ends. When cutting ends, too, it
// waits for nobody any more.
func (l *link) run(stopping, cutting context.Context) {
	defer l.standing.set(Stopped, nil, time.Time{})
	wait, told := l.cfg.RetryMin, ""
	for try := 1; stopping.Err() == nil; try++ {
		began, before := time.Now(), l.counters.get(accepted)
		err := l.connect(stopping, cutting)
		l.metrics.up.WithLabelValues(l.Name).Set(0)
		if stopping.Err() != nil {
			return
		}
		if time.Since(began) > settledIn || l.counters.get(accepted) > before {
			wait, try, told = l.cfg.RetryMin, 1, ""
		}
		pause := jitter(wait)
		wait = min(2*wait, l.cfg.RetryMax)
		l.standing.set(Down, err, time.Now().Add(pause))
		level := slog.LevelDebug
		if err.Error() != told { // once for each reason
			level, told = slog.LevelWarn, err.Error()
		}
		l.log.Log(stopping, level, "the bridge is down", "error", err, "try", try, "retry_in", pause.Round(time.Millisecond))
		sleep(stopping, pause)
		l.standing.set(Connecting, nil, time.Time{})
	}
}

// jitter is d, give or take half of it: many that were cut off together do not
// come back together.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// sleep waits for d, or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// connect connects once, and answers why that ended.
func (l *link) connect(stopping, cutting context.Context) error {
	conn, cut, err := l.dial(stopping)
	if err != nil {
		l.metrics.connects.WithLabelValues("failed").Inc()
		return err
	}
	defer conn.Close()
	unhook := context.AfterFunc(cutting, cut) // the end of the library's own close, too
	defer unhook()
	c := &connection{link: l, conn: conn, cutting: cutting}
	c.ctx, c.end = context.WithCancelCause(stopping)
	defer c.end(errStopping)
	leave, err := l.gate.Connect(l.speaker, device.Session{Device: l.id(), Protocol: device.AMQP, Client: l.cfg.ContainerID + "-" + l.Name},
		func(why device.Leaving) { c.end(errEnded{why}) })
	if err == nil {
		err = c.attach()
		defer func() { leave(c.leaving(stopping)) }()
	}
	if err != nil {
		l.metrics.connects.WithLabelValues("failed").Inc()
		c.end(err)
		c.finish()
		return err
	}
	l.metrics.connects.WithLabelValues("done").Inc()
	l.metrics.up.WithLabelValues(l.Name).Set(1)
	l.standing.set(Up, nil, time.Time{})
	l.log.Info("the bridge is up")
	select {
	case <-conn.Done():
		c.end(closedBy(conn))
	case <-c.ctx.Done():
	}
	c.finish()
	return context.Cause(c.ctx)
}

func closedBy(conn *amqp.Conn) error {
	if err := conn.Err(); err != nil {
		return err
	}
	return errClosed
}

// connection is a link while it is connected.
type connection struct {
	*link
	conn    *amqp.Conn
	ctx     context.Context // ends with a cause when it shall end
	end     context.CancelCauseFunc
	cutting context.Context
	work    sync.WaitGroup // its goroutines, which end with ctx
	pending sync.WaitGroup // messages not answered yet
}

// attach opens every link of the connection, and begins to work.
func (c *connection) attach() error {
	for _, address := range c.Receive {
		if err := c.receive(address, c.takeTelemetry); err != nil {
			return err
		}
	}
	if c.Replies != "" {
		if err := c.receive(c.Replies, c.takeAnswer); err != nil {
			return err
		}
	}
	if c.Commands != "" {
		c.sendCommands()
	}
	return nil
}

// do runs a part of the connection: its error, or its panic, ends the connection.
func (c *connection) do(part string, run func(context.Context) error) {
	c.work.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				c.metrics.panics.Inc()
				c.log.Error("a fault of ours", "part", part, "panic", p, "stack", string(debug.Stack()))
				c.end(fmt.Errorf("a fault of ours: %v", p))
			}
		}()
		if err := run(c.ctx); err != nil && c.ctx.Err() == nil {
			c.end(fmt.Errorf("%s: %w", part, err))
		}
	})
}

// finish waits until what was taken is answered, while the broker can hear it.
func (c *connection) finish() {
	c.work.Wait()
	answered := make(chan struct{})
	go func() {
		c.pending.Wait()
		close(answered)
	}()
	select {
	case <-answered:
	case <-c.conn.Done():
	case <-c.cutting.Done():
	}
}

// leaving is why the session of the link's gateway ended.
func (c *connection) leaving(stopping context.Context) device.Leaving {
	var ended errEnded
	switch {
	case errors.As(context.Cause(c.ctx), &ended):
		return ended.why
	case stopping.Err() != nil:
		return device.LeftDrain
	}
	return device.LeftLost
}
