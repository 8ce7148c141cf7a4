package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// clusterSize is how long TestDeviceMovesBetweenNodes goes on: a fixed small
// budget, or what TRIBUTARY_CLUSTER_MOVES and TRIBUTARY_CLUSTER_KILLS say (1000
// and 20 are the figures docs/cluster.md quotes).
func clusterSize(t *testing.T) (moves, kills int) {
	return sized(t, "TRIBUTARY_CLUSTER_MOVES", 60), sized(t, "TRIBUTARY_CLUSTER_KILLS", 2)
}

// nodeTimeout is short, so that tests see a dead node's end; a machine that is
// busy with many tests must still beat within half of it.
const nodeTimeout = "5s"

// apiOf is a connection to a node's gRPC listener, one for all who ask.
func apiOf(t testing.TB, s *server) *grpc.ClientConn {
	t.Helper()
	conn, err := s.api()
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// dialAPI connects until the test ends.
func (s *server) dialAPI() (*grpc.ClientConn, error) {
	token, err := os.ReadFile(filepath.Join(s.data, tokenFile))
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(s.addresses["grpc"], grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithPerRPCCredentials(operator(strings.TrimSpace(string(token)))))
	if err == nil {
		s.t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

// cluster is two nodes on one NATS server: "a", which dies, without a store, and
// "b" with everything.
type cluster struct {
	t     *testing.T
	url   string
	mode  []string // of both nodes
	dataA string
	b     *server

	mu sync.Mutex
	a  *server // nil while it is dead
}

func openCluster(t *testing.T) *cluster {
	t.Helper()
	return newCluster(t, startNATS(t, true), "--open")
}

// onOneNATSAndThree runs a test of two nodes on one NATS server, and on a cluster of
// three that keeps each stream three times. All of them sync always.
func onOneNATSAndThree(t *testing.T, test func(t *testing.T, c *cluster)) {
	t.Parallel()
	t.Run("R1", func(t *testing.T) {
		t.Parallel()
		test(t, openCluster(t))
	})
	t.Run("R3", func(t *testing.T) {
		t.Parallel()
		// A beat is three fsyncs there: on a busy machine it takes its time.
		test(t, newCluster(t, startNATSCluster(t), "--open", "--nats-replicas", "3", "--node-timeout", "15s"))
	})
}

// newCluster starts both nodes; what mode says goes before what they have in common.
func newCluster(t *testing.T, url string, mode ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, url: url, mode: mode, dataA: t.TempDir()}
	data := t.TempDir()
	shareKey(t, c.dataA, data)
	c.b = serve(t, data, append([]string{"--nats", c.url, "--node", "b", "--node-timeout", nodeTimeout, "--store", "sqlite:" + data + "/rows.db"}, mode...)...)
	c.startA()
	return c
}

// shareKey gives data directories one key for hashing secrets.
func shareKey(t *testing.T, dirs ...string) {
	t.Helper()
	key := fmt.Appendf(nil, "%032d", rand.Uint64())
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, pepperFile), key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *cluster) startA() {
	a := serve(c.t, c.dataA, append([]string{"--nats", c.url, "--node", "a", "--node-timeout", nodeTimeout, "--roles", "mqtt,amqp,https,command,api"}, c.mode...)...)
	c.mu.Lock()
	c.a = a
	c.mu.Unlock()
}

func (c *cluster) killA() {
	c.mu.Lock()
	a := c.a
	c.a = nil
	c.mu.Unlock()
	a.kill()
}

// node is a living node: an odd number asks for "a", and gets it when it lives.
func (c *cluster) node(n int) *server {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n%2 == 1 && c.a != nil {
		return c.a
	}
	return c.b
}

// sessions is the open sessions of a device as a node lists them.
func (c *cluster) sessions(s *server, name string) []*pb.PresenceEvent {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	list, err := pb.NewPresenceServiceClient(apiOf(c.t, s)).ListSessions(ctx, &pb.ListSessionsRequest{Parent: "tenants/default/devices/" + name})
	if err != nil {
		c.t.Fatal(err)
	}
	return list.GetSessions()
}

// rover is a device that moves between the nodes: it sends numbered readings,
// carries out commands and answers each until its answer is acknowledged.
type rover struct {
	t    *testing.T
	name string
	book *ledger

	mu      sync.Mutex
	conn    mqtt.Client
	number  int
	seen    map[string]int // deliveries by command
	answers map[string]bool
	done    int // answers acknowledged
}

// move connects to a node, at times while the old connection still stands.
func (r *rover) move(to *server, hard bool) error {
	r.mu.Lock()
	old := r.conn
	r.mu.Unlock()
	if old != nil && !hard {
		old.Disconnect(5)
	}
	conn := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + to.addresses["mqtt"]).SetClientID(r.name).
		SetAutoReconnect(false).SetOrderMatters(false).SetConnectTimeout(5 * time.Second).
		SetWriteTimeout(time.Second)) // a Publish that the end of its connection overtakes returns only after this; without it, after 30 s
	if token := conn.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		return fmt.Errorf("connect: %w", token.Error())
	}
	token := conn.Subscribe(r.name+"/commands/#", 1, func(_ mqtt.Client, m mqtt.Message) { r.command(m) })
	if !token.WaitTimeout(patience) || token.Error() != nil {
		return fmt.Errorf("subscribe: %w", token.Error())
	}
	r.mu.Lock()
	r.conn = conn
	r.mu.Unlock()
	if old != nil && hard {
		old.Disconnect(0) // long taken over
	}
	return nil
}

// settle waits until the device has sent something from where it is now, if the
// node lives.
func (r *rover) settle() {
	r.mu.Lock()
	conn := r.conn
	r.mu.Unlock()
	for before := r.book.count(); conn.IsConnectionOpen() && r.book.count() == before; {
		time.Sleep(time.Millisecond) // between two looks
	}
}

// waiting is how many of so many commands the device has not answered.
func (r *rover) waiting(sent int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return sent - r.done
}

func (r *rover) command(m mqtt.Message) {
	levels := strings.Split(m.Topic(), "/")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[levels[2]]++
	r.answers[levels[2]] = true
}

// work sends readings and answers until ctx ends.
func (r *rover) work(ctx context.Context) {
	for ctx.Err() == nil {
		r.mu.Lock()
		conn := r.conn
		r.number++
		n := r.number
		var answers []string
		for id := range r.answers {
			answers = append(answers, id)
		}
		r.mu.Unlock()
		if conn == nil || !conn.IsConnectionOpen() {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		if publish(conn, r.name+"/telemetry", fmt.Sprintf(`{"n":%d}`, n)) == nil {
			r.book.enter(r.name, n)
		}
		for _, id := range answers {
			if publish(conn, r.name+"/responses/"+id+"/200", "done") == nil {
				r.mu.Lock()
				if r.answers[id] {
					delete(r.answers, id)
					r.done++
				}
				r.mu.Unlock()
			}
		}
	}
}

func publish(conn mqtt.Client, topic, payload string) error {
	token := conn.Publish(topic, 1, false, payload)
	for !token.WaitTimeout(20 * time.Millisecond) {
		if !conn.IsConnectionOpen() {
			return fmt.Errorf("connection lost")
		}
	}
	return token.Error()
}

// command sends one through whichever node takes it, with a key: exactly once.
func (c *cluster) command(n int, name string) (id string, err error) {
	giveUp := time.Now().Add(patience)
	for try := 0; ; try++ {
		s := c.node(n + try)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		conn := apiOf(c.t, s)
		sent, err := pb.NewCommandServiceClient(conn).SendCommand(ctx, &pb.SendCommandRequest{
			Parent: "tenants/default/devices/" + name, Command: "go", Key: fmt.Sprintf("%s-%d", name, n),
			Ttl: durationpb.New(time.Hour), ResponseTimeout: durationpb.New(time.Hour),
		})
		cancel()
		if err == nil {
			return sent.GetId(), nil
		}
		if time.Now().After(giveUp) {
			return "", err
		}
		time.Sleep(20 * time.Millisecond) // a node that starts or dies; the key makes trying again harmless
	}
}

// TestDeviceMovesBetweenNodes: a device moves between two nodes while readings
// and commands flow and one node is killed and restarted. No acknowledged
// message is lost or doubled, no command is settled twice or left behind, and
// presence is right at the end.
func TestDeviceMovesBetweenNodes(t *testing.T) {
	moves, kills := clusterSize(t)
	c := openCluster(t)
	r := &rover{t: t, name: "rover", book: &ledger{acked: map[string]map[int]bool{}}, seen: map[string]int{}, answers: map[string]bool{}}
	if err := r.move(c.node(0), false); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() { r.work(ctx) })
	}
	sent, failed := make(chan string, 100_000), make(chan error, 1)
	work.Go(func() {
		for n := 0; ctx.Err() == nil && n < cap(sent); n++ {
			id, err := c.command(n, r.name)
			if err != nil {
				failed <- err
				return
			}
			sent <- id
			for ctx.Err() == nil && r.waiting(n+1) > 20 {
				time.Sleep(time.Millisecond) // between two looks
			}
		}
	})
	var restart sync.WaitGroup
	killed := 0
	for n := 1; n <= moves; n++ {
		if err := r.move(c.node(n), rand.IntN(2) == 0); err != nil {
			t.Logf("move %d: %v", n, err) // the node died under it: the next move mends it
		}
		r.settle()
		if killed < kills && n*(kills+1) >= (killed+1)*moves {
			restart.Wait()
			c.killA()
			killed++
			restart.Go(c.startA)
		}
	}
	restart.Wait()
	if err := r.move(c.node(1), true); err != nil {
		t.Fatal(err)
	}
	stop()
	work.Wait()
	select {
	case err := <-failed:
		t.Fatalf("a command was not taken: %v", err)
	default:
	}
	close(sent)
	finish, done := context.WithCancel(t.Context())
	work.Go(func() { r.work(finish) })
	verifyCommands(t, c, r, sent)
	done()
	work.Wait()
	verifyLedger(t, c.b, r.book)
	verifyPresence(t, c, r, moves, killed)
}

// verifyCommands waits until every command has ended, and holds its trail to
// the table: one end, and at most one receipt.
func verifyCommands(t *testing.T, c *cluster, r *rover, sent <-chan string) {
	t.Helper()
	client := pb.NewCommandServiceClient(apiOf(t, c.node(1)))
	commands, repeated, twice := 0, 0, 0
	for id := range sent {
		commands++
		got := succeeded(t, client, r, id)
		receipts, ends, attempts := 0, 0, uint32(0)
		for _, e := range got.GetEvents() {
			switch e.GetState() {
			case pb.CommandState_COMMAND_STATE_DELIVERED:
				receipts++
			case pb.CommandState_COMMAND_STATE_SUCCEEDED:
				ends++
			}
			attempts = max(attempts, e.GetAttempt())
		}
		if receipts > 1 || ends != 1 {
			twice++
			t.Errorf("command %s was settled %d times and ended %d times: %v", id, receipts, ends, got.GetEvents())
		}
		if attempts > 1 {
			repeated++
		}
		r.mu.Lock()
		if deliveries := r.seen[id]; deliveries > int(attempts) {
			t.Errorf("command %s came %d times in %d attempts", id, deliveries, attempts)
		}
		r.mu.Unlock()
	}
	t.Logf("%d commands, %d of them offered again, %d settled twice", commands, repeated, twice)
	if commands == 0 {
		t.Error("no command was sent")
	}
}

// succeeded waits until a command has; one that does not end is told with its trail.
func succeeded(t *testing.T, client pb.CommandServiceClient, r *rover, id string) (got *pb.Command) {
	t.Helper()
	defer func() {
		if got.GetState() != pb.CommandState_COMMAND_STATE_SUCCEEDED {
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Logf("command %s came %d times, is to be answered: %t: %v", id, r.seen[id], r.answers[id], got.GetEvents())
		}
	}()
	eventually(t, "the end of command "+id, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		now, err := client.GetCommand(ctx, &pb.GetCommandRequest{Name: "tenants/default/devices/-/commands/" + id})
		if err == nil {
			got = now
		}
		return err == nil && got.GetState() == pb.CommandState_COMMAND_STATE_SUCCEEDED
	})
	return got
}

// verifyPresence holds what is listed and what was told to where the device is.
func verifyPresence(t *testing.T, c *cluster, r *rover, moves, kills int) {
	t.Helper()
	for _, s := range []*server{c.a, c.b} {
		eventually(t, "one session of the rover, on a", func() bool {
			open := c.sessions(s, r.name)
			return len(open) == 1 && open[0].GetNode() == "a" && open[0].GetProtocol() == "mqtt"
		})
	}
	live := c.sessions(c.b, r.name)[0].GetSession()
	reasons := map[string]int{}
	eventually(t, "an end of every other session", func() bool {
		open := map[string]bool{}
		clear(reasons)
		for _, e := range c.presenceSoFar(c.b, r.name) {
			open[e.GetSession()] = e.GetConnected()
			reasons[e.GetReason()]++
		}
		left := 0
		for id, is := range open {
			if is && id != live {
				left++
			}
		}
		return left == 0 && open[live]
	})
	t.Logf("%d moves, %d kills; sessions began %d times and ended: %v", moves, kills, reasons[""], reasons)
}

// presenceSoFar reads all presence events of a device that are kept.
func (c *cluster) presenceSoFar(s *server, name string) (all []*pb.PresenceEvent) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	stream, err := pb.NewPresenceServiceClient(apiOf(c.t, s)).WatchPresence(ctx, &pb.WatchPresenceRequest{
		Parent: "tenants/default/devices/" + name, Position: devicepb.EncodePosition(device.Position{}),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			if status.Code(err) != codes.DeadlineExceeded { // the server may see the end of ctx first
				c.t.Fatal(err)
			}
			return all
		}
		all = append(all, e)
	}
}
