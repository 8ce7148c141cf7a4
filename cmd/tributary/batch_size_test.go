package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// crew is devices that share one MQTT connection. Each answers a command before it
// acknowledges it, so that none has anything to remember when the connection ends:
// what was not acknowledged comes again, or has ended.
type crew struct {
	t     *testing.T
	names []string
	seen  *sync.Map // device/command id: true
	came  *atomic.Int64
}

// crewSize is within the 256 devices one MQTT connection may take commands for.
const crewSize = 200

// labour works for whichever server is the one now, until ctx ends.
func (c *crew) labour(ctx context.Context, now *atomic.Pointer[server]) {
	for ctx.Err() == nil {
		if conn, err := tryMQTT5(now.Load(), c.names[0]); err == nil {
			c.shift(ctx, conn)
			conn.Close()
			for range conn.in { // its reader ends
			}
		}
		select {
		case <-time.After(20 * time.Millisecond): // as devices would
		case <-ctx.Done():
		}
	}
}

// shift takes commands and answers them until the connection ends.
func (c *crew) shift(ctx context.Context, conn *mqtt5Conn) {
	s := &packets.Subscribe{PacketID: 1}
	for _, name := range c.names {
		s.Subscriptions = append(s.Subscriptions, packets.SubOptions{Topic: name + "/commands/#", QoS: 1})
	}
	_, err := s.WriteTo(conn)
	for err == nil {
		var p *packets.ControlPacket
		select {
		case p = <-conn.in:
		case <-ctx.Done():
		}
		if p == nil {
			return
		}
		switch m := p.Content.(type) {
		case *packets.Suback:
			for _, reason := range m.Reasons {
				if reason >= 0x80 {
					return // the server is not up yet, or no more
				}
			}
		case *packets.Publish: // {device}/commands/{id}/{name}
			levels := strings.Split(m.Topic, "/")
			if _, again := c.seen.LoadOrStore(levels[0]+"/"+levels[2], true); again && !m.Duplicate {
				c.t.Errorf("%s came again and was not shown as a repeat", m.Topic)
			}
			c.came.Add(1)
			_, err = (&packets.Publish{Topic: levels[0] + "/responses/" + levels[2] + "/200", QoS: 1, PacketID: m.PacketID}).WriteTo(conn)
		case *packets.Puback: // of the answer, under the identifier of its command
			_, err = (&packets.Puback{PacketID: m.PacketID}).WriteTo(conn)
		}
	}
}

// TestBatchToAFleetOverAKill sends one command to many devices, half of which are
// there, kills the server in the middle, and lets the others come: each device has
// seen one command, which has ended once, and the batch says so. TRIBUTARY_BATCH_DEVICES
// says how many there are.
func TestBatchToAFleetOverAKill(t *testing.T) {
	t.Parallel()
	devices := sized(t, "TRIBUTARY_BATCH_DEVICES", 4*crewSize)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience+time.Duration(devices)*20*time.Millisecond)
	defer cancel()
	names := make([]string, devices)
	for i := range names {
		names[i] = fmt.Sprintf("dev-%06d", i)
	}
	data := t.TempDir()
	var now atomic.Pointer[server]
	now.Store(serve(t, data, "--open"))
	var seen sync.Map
	var came atomic.Int64
	var crews sync.WaitGroup
	work, rest := context.WithCancel(ctx)
	defer crews.Wait()
	defer rest()
	begin := func(names []string) {
		for len(names) > 0 {
			c := &crew{t: t, names: names[:min(crewSize, len(names))], seen: &seen, came: &came}
			names = names[len(c.names):]
			crews.Go(func() { c.labour(work, &now) })
		}
	}
	half := (devices + 1) / 2
	begin(names[:half])
	began := time.Now()
	var batch *pb.CommandBatch
	eventually(t, "the batch to be made", func() (ok bool) {
		var err error
		batch, err = pb.NewCommandBatchServiceClient(apiOf(t, now.Load())).CreateCommandBatch(ctx, &pb.CreateCommandBatchRequest{
			Parent: "tenants/default", CommandBatchId: "all", CommandBatch: &pb.CommandBatch{Command: "update", Devices: names},
		})
		return err == nil
	})
	moves(t, "commands that came to their devices", &came, rand.Int64N(int64(half))+1)
	now.Load().kill()
	now.Store(serve(t, data, "--open"))
	begin(names[half:])
	s := now.Load()
	eventually(t, "the batch after the kill", func() bool { return s.batch(ctx, batch.GetName()).GetTotal() > 0 })
	ends := batchResults(ctx, t, s, batch.GetName())
	took := time.Since(began)
	if len(ends) != devices {
		t.Errorf("%d devices have a result, want %d", len(ends), devices)
	}
	endedOnce(ctx, t, s, ends)
	seen.Range(func(pair, _ any) bool {
		if name, id, _ := strings.Cut(pair.(string), "/"); ends[name] != id {
			t.Errorf("%s saw command %s, its result is of %s", name, id, ends[name])
		}
		return true
	})
	if got := s.batch(ctx, batch.GetName()); got.GetState() != pb.CommandBatchState_COMMAND_BATCH_STATE_COMPLETED || int(got.GetProgress().GetSucceeded()) != devices {
		t.Errorf("the batch is %s with %v", got.GetState(), got.GetProgress())
	}
	t.Logf("%d devices in %v; commands came %d times", devices, took.Round(time.Millisecond), came.Load())
}

// batch is how a batch stands; empty when the server cannot say at the moment.
func (s *server) batch(ctx context.Context, name string) *pb.CommandBatch {
	b, err := pb.NewCommandBatchServiceClient(apiOf(s.t, s)).GetCommandBatch(ctx, &pb.GetCommandBatchRequest{Name: name})
	if err != nil {
		return &pb.CommandBatch{}
	}
	return b
}

// batchResults reads a batch's results to their end: all succeeded, each device once.
func batchResults(ctx context.Context, t *testing.T, s *server, name string) (ids map[string]string) {
	t.Helper()
	stream, err := pb.NewCommandBatchServiceClient(apiOf(t, s)).WatchCommandBatchResults(ctx, &pb.WatchCommandBatchResultsRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	ids = map[string]string{}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return ids
		}
		if err != nil {
			t.Fatalf("after %d results: %v", len(ids), err)
		}
		if ids[r.GetDevice()] != "" || r.GetState() != pb.CommandState_COMMAND_STATE_SUCCEEDED {
			t.Errorf("a result of %s, whose command is %q: %v", r.GetDevice(), ids[r.GetDevice()], r)
		}
		ids[r.GetDevice()] = r.GetCommand()[strings.LastIndexByte(r.GetCommand(), '/')+1:]
	}
}

// endedOnce waits until the store has the end of every command, and holds them to the
// devices' ids: one each, whose trail has one end.
func endedOnce(ctx context.Context, t *testing.T, s *server, ids map[string]string) {
	t.Helper()
	var all []*pb.Command
	eventually(t, "the store to have what the results say", func() bool {
		all = s.commands(ctx)
		return len(all) >= len(ids) && !slices.ContainsFunc(all, func(c *pb.Command) bool { return !ended(c) })
	})
	if len(all) != len(ids) {
		t.Errorf("%d commands of %d devices are listed", len(all), len(ids))
	}
	for _, c := range all {
		ends := 0
		for _, e := range c.GetEvents() {
			if devicepb.StateFromProto(e.GetState()).Terminal(false) {
				ends++
			}
		}
		if ends != 1 || ids[c.GetDevice()] != c.GetId() {
			t.Errorf("%s, whose result is of %q, has %s: %s", c.GetDevice(), ids[c.GetDevice()], c.GetId(), trailOf(c))
		}
	}
}

// commands lists all of the tenant.
func (s *server) commands(ctx context.Context) (all []*pb.Command) {
	s.t.Helper()
	list := &pb.ListCommandsRequest{Parent: "tenants/default/devices/-", PageSize: 1000}
	for {
		page, err := pb.NewCommandServiceClient(apiOf(s.t, s)).ListCommands(ctx, list)
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, page.GetCommands()...)
		if list.PageToken = page.GetNextPageToken(); list.PageToken == "" {
			return all
		}
	}
}
