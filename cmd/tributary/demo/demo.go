// Package demo shows all of Tributary at once: thermostats on every protocol, a
// rule that commands their heating, and a view of it all. It is a client like
// any other: it knows the server by its addresses only, and at the end it holds
// the server to what was acknowledged.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	tributaryv1 "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// Options says where the server is and how long to play.
type Options struct {
	Addresses map[string]string // as in addresses.json: mqtt, amqp, http, grpc, admin
	Token     string            // the operator's token
	Data      string            // the data directory, for the lines to try by hand
	For       time.Duration     // 0: until ctx ends
	PerDoor   int               // thermostats on each protocol
	Out       *os.File
}

// ErrVerdict means the server acknowledged something it cannot show, or showed
// something twice.
var ErrVerdict = errors.New("demo: the server did not keep what it acknowledged")

// Run plays until the time is up or ctx ends, then prints a summary. It answers
// ErrVerdict when a message in the devices' ledger of acks does not come back
// through Query exactly once, or when a protocol got no message through at all.
func Run(ctx context.Context, o Options) error {
	conn, err := dial(o)
	if err != nil {
		return err
	}
	defer conn.Close()
	world := newWorld(o.PerDoor)
	fmt.Fprintln(o.Out, world.tryByHand(o))

	play, stop := context.WithCancel(ctx)
	if o.For > 0 {
		play, stop = context.WithTimeout(ctx, o.For)
	}
	defer stop()
	var workers sync.WaitGroup
	for _, t := range world.thermostats {
		workers.Go(func() { t.live(play, o.Addresses) })
	}
	workers.Go(func() { runRule(play, conn, world) })
	show(play, o.Out, world)
	stop()
	workers.Wait()

	// The end is a time of its own: Ctrl-C ended the play, not the verdict.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return verdict(end, o.Out, conn, world)
}

func dial(o Options) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(o.Addresses["grpc"],
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithPerRPCCredentials(bearer(o.Token)))
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	return conn, nil
}

// bearer carries the operator's token on every call.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity is false: the demo's server listens on loopback.
func (b bearer) RequireTransportSecurity() bool { return false }

// show draws the view: in place on a terminal, a line now and then elsewhere.
func show(ctx context.Context, out *os.File, w *world) {
	if term.IsTerminal(int(out.Fd())) {
		loop(ctx, 500*time.Millisecond, func(first bool) { drawScreen(out, w, first) })
		return
	}
	loop(ctx, 2*time.Second, func(bool) { fmt.Fprintln(out, w.line()) })
}

func loop(ctx context.Context, every time.Duration, draw func(first bool)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			draw(first)
		}
	}
}

// parent is the resource name of the demo's devices; "-" stands for all.
func parent(name string) string { return "tenants/default/devices/" + name }

// clients are the two services the demo calls.
type clients struct {
	telemetry tributaryv1.TelemetryServiceClient
	commands  tributaryv1.CommandServiceClient
}

func newClients(conn *grpc.ClientConn) clients {
	return clients{tributaryv1.NewTelemetryServiceClient(conn), tributaryv1.NewCommandServiceClient(conn)}
}
