package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// fleetBudget is a small budget, or what the environment says: 1000, 100000 and 20 is
// the full size.
func fleetBudget(t *testing.T) (devices, commands, kills int) {
	t.Helper()
	return sized(t, "TRIBUTARY_FLEET_DEVICES", 12), sized(t, "TRIBUTARY_FLEET_COMMANDS", 120), sized(t, "TRIBUTARY_FLEET_KILLS", 2)
}

// diary is what the devices of a fleet saw and did, told by themselves.
type diary struct {
	mu       sync.Mutex
	seen     map[string]int  // command id: how often it came
	unmarked []string        // ids that came again and did not say so
	answered map[string]bool // whose answer was acknowledged
}

func (d *diary) saw(id string, repeat bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen[id]++; d.seen[id] > 1 && !repeat {
		d.unmarked = append(d.unmarked, id)
	}
}

func (d *diary) did(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answered[id] = true
}

// TestFleetOverKills has devices on every protocol obey while the server is killed
// again and again: every command comes to one end, which agrees with what its device
// saw and did, and every repeat was shown as one.
func TestFleetOverKills(t *testing.T) {
	devices, commands, kills := fleetBudget(t)
	data := t.TempDir()
	var now atomic.Pointer[server]
	now.Store(serve(t, data, "--open"))
	book := &diary{seen: map[string]int{}, answered: map[string]bool{}}
	work, rest := context.WithCancel(t.Context())
	defer rest()
	var workers sync.WaitGroup
	for i := range devices {
		w := &worker{protocol: protocols[i%len(protocols)], device: fmt.Sprintf("dev-%04d", i), lock: 5 * time.Second, seen: book.saw, answered: book.did}
		workers.Go(func() { w.labour(work, &now) })
	}
	var sent atomic.Int64
	ids := make([]string, commands)
	var senders sync.WaitGroup
	for n := range min(16, devices) {
		senders.Go(func() {
			for i := n; i < commands; i += min(16, devices) {
				ids[i] = sendSurely(t, &now, fmt.Sprintf("dev-%04d", i%devices), fmt.Sprint("n", i))
				sent.Add(1)
			}
		})
	}
	for kill := range kills { // each at another moment: after its share of the commands
		enough := int64(commands*kill/(kills+1) + rand.IntN(max(1, commands/(kills+1))))
		moves(t, "sent commands", &sent, enough)
		now.Load().kill()
		now.Store(serve(t, data, "--open"))
	}
	senders.Wait()
	s := now.Load()
	counts := map[string]int{}
	for i, id := range ids {
		counts[book.agrees(t, s, id, protocols[i%devices%len(protocols)] == "mqtt3")]++
	}
	rest()
	workers.Wait()
	s.stop()
	if len(book.unmarked) > 0 {
		t.Errorf("%d repeats were not shown as such: %v", len(book.unmarked), book.unmarked[:1])
	}
	if len(book.seen) > commands {
		t.Errorf("devices saw %d commands, %d were sent", len(book.seen), commands)
	}
	repeats := 0
	for _, n := range book.seen {
		repeats += n - 1
	}
	t.Logf("%d devices, %d commands, %d kills: %v; %d repeats", devices, commands, kills, counts, repeats)
}

// moves waits until n has come so far, as long as it goes on.
func moves(t *testing.T, what string, n *atomic.Int64, enough int64) {
	for n.Load() < enough && !t.Failed() {
		was := n.Load()
		eventually(t, what, func() bool { return n.Load() > was || t.Failed() })
	}
}

// sendSurely sends one command, under its key, until it is taken.
func sendSurely(t *testing.T, now *atomic.Pointer[server], device, key string) string {
	req := &pb.SendCommandRequest{Parent: api.DeviceName("default", device), Command: "heat", Key: key,
		Ttl: durationpb.New(time.Hour), ResponseTimeout: durationpb.New(patience / 3)}
	for deadline := time.Now().Add(3 * patience); time.Now().Before(deadline); {
		if conn, err := now.Load().api(); err == nil {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			cmd, err := pb.NewCommandServiceClient(conn).SendCommand(ctx, req)
			cancel()
			if err == nil {
				return cmd.GetId()
			}
		}
		time.Sleep(20 * time.Millisecond) // between two attempts; no assertion hangs on it
	}
	t.Errorf("command %s was not taken", key)
	return ""
}

// agrees waits for a command's end and holds its trail to the device's diary. On
// MQTT 3.1.1 (politely) an answer that comes after the end is acknowledged as well.
func (d *diary) agrees(t *testing.T, s *server, id string, politely bool) string {
	conn := apiOf(t, s)
	var cmd *pb.Command
	for deadline := time.Now().Add(3 * patience); !ended(cmd); {
		if time.Now().After(deadline) {
			t.Fatalf("command %s does not end: %s", id, trailOf(cmd))
		}
		var err error
		if cmd, err = pb.NewCommandServiceClient(conn).GetCommand(t.Context(), &pb.GetCommandRequest{Name: api.CommandName("default", "", id)}); err != nil {
			t.Fatal(err)
		}
		if !ended(cmd) {
			time.Sleep(20 * time.Millisecond) // between two looks; no assertion hangs on it
		}
	}
	ends := 0
	for _, e := range cmd.GetEvents() {
		if devicepb.StateFromProto(e.GetState()).Terminal(false) {
			ends++
		}
	}
	if ends != 1 {
		t.Errorf("command %s ended %d times: %s", id, ends, trailOf(cmd))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	state := devicepb.StateFromProto(cmd.GetState())
	if succeeded := state == device.StateSucceeded; d.answered[id] && !succeeded && !politely || succeeded && d.seen[id] == 0 || !succeeded && state != device.StateFailed {
		t.Errorf("its device saw command %s %d times, its answer was acknowledged: %v; but the trail is %s", id, d.seen[id], d.answered[id], trailOf(cmd))
	}
	return state.String()
}
