package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	tributaryv1 "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// The rule: below cold the heating goes on, above warm it goes off.
const (
	cold = 19.5
	warm = 20.5
)

// rule watches the live feed and commands the heating. It is what an
// application on top of Tributary would be.
type rule struct {
	clients
	world *world

	mu    sync.Mutex
	asked map[string]bool // device -> a command is under way
	watch sync.WaitGroup
}

// runRule follows the feed until ctx ends, taking it up again where it broke.
func runRule(ctx context.Context, conn *grpc.ClientConn, w *world) {
	r := &rule{clients: newClients(conn), world: w, asked: map[string]bool{}}
	defer r.watch.Wait()
	position := ""
	for ctx.Err() == nil {
		r.follow(ctx, &position)
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// follow considers every message after position, and moves it, until the feed breaks.
func (r *rule) follow(ctx context.Context, position *string) {
	feed, err := r.telemetry.Subscribe(ctx, &tributaryv1.SubscribeRequest{Parent: parent("-"), Position: *position})
	for err == nil {
		var m *tributaryv1.Message
		if m, err = feed.Recv(); err == nil {
			*position = m.Position
			r.consider(ctx, m)
		}
	}
}

// consider sends a command when the room is too cold or too warm for what the
// heating does.
func (r *rule) consider(ctx context.Context, m *tributaryv1.Message) {
	var temperature float64
	var heating, known bool
	for _, v := range m.Measurements {
		switch v.Name {
		case "temperature":
			temperature, known = v.GetDoubleValue()+float64(v.GetIntValue()), true
		case "heating":
			heating = v.GetBoolValue()
		}
	}
	wanted := temperature < cold && !heating
	unwanted := temperature > warm && heating
	if !known || !wanted && !unwanted {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked[m.Device] {
		return
	}
	r.asked[m.Device] = true
	r.watch.Go(func() { r.command(ctx, m.Device, wanted) })
}

// command sends one command and watches it to its end. A command under way is
// seen to its end even when the play is over.
func (r *rule) command(ctx context.Context, name string, on bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.asked, name)
	}()
	sent, err := r.commands.SendCommand(ctx, &tributaryv1.SendCommandRequest{
		Parent: parent(name), Command: "heat", Payload: fmt.Appendf(nil, `{"on":%t}`, on),
		ContentType: "application/json", Ttl: durationpb.New(5 * time.Second), ResponseTimeout: durationpb.New(5 * time.Second),
	})
	if err != nil {
		r.world.saw(name+" "+err.Error(), name, "heat", "NOT SENT")
		return
	}
	watched, err := r.commands.WatchCommand(ctx, &tributaryv1.WatchCommandRequest{Name: sent.Name})
	for err == nil {
		var now *tributaryv1.Command
		if now, err = watched.Recv(); err == nil {
			r.world.saw(now.Id, name, fmt.Sprintf("heat on=%t", on), stateName(now.State))
		}
	}
	if ctx.Err() != nil && !errors.Is(err, context.Canceled) {
		r.world.saw(sent.Id, name, "heat", "UNKNOWN")
	}
}

func stateName(s tributaryv1.CommandState) string {
	const prefix = "COMMAND_STATE_"
	return s.String()[len(prefix):]
}
