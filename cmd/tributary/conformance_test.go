package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tributary-iot/tributary/api"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// protocols are the rows of the table; each device of a row that moves, moves to
// the next one's door.
var protocols = []string{"mqtt3", "mqtt5", "amqp", "https"}

// cell is one device that lives through one column of the table on one row.
type cell struct {
	*testing.T
	s        *server
	protocol string
	device   string
	request  *pb.SendCommandRequest // what is sent
}

// column is a thing that can happen to a command. Its trail is written as trailOf
// writes it; $p is the word for the row's protocol, $q for that of the next one,
// $lost for what the trail says of a session that ended.
type column struct {
	name   string
	act    func(c *cell) (id string)
	trail  string
	except map[string]string // rows whose protocol has no word for it
}

var columns = []column{
	{"online", func(c *cell) string {
		d := c.sit(c.protocol)
		defer d.cut()
		id := c.send()
		c.carryOut(d, id, false)
		return id
	}, "QUEUED SENT($p) DELIVERED($p) SUCCEEDED($p)", nil},
	{"offline, then the same protocol", func(c *cell) string { return c.comeBack(c.protocol) },
		"QUEUED SENT($p) DELIVERED($p) SUCCEEDED($p)", nil},
	{"offline, then another protocol", func(c *cell) string { return c.comeBack(c.next()) },
		"QUEUED SENT($q) DELIVERED($q) SUCCEEDED($q)", nil},
	{"reject", func(c *cell) string {
		d := c.sit(c.protocol)
		defer d.cut()
		id := c.send()
		p := c.take(d, id, false)
		if c.protocol == "mqtt3" { // which can only take it and answer so
			c.must(p.settle(c.Context(), "accept"))
			c.reaches(id, "DELIVERED")
			c.must(d.respond(c.Context(), id, 422))
		} else {
			c.must(p.settle(c.Context(), "reject"))
		}
		return id
	}, "QUEUED SENT($p) REJECTED($p)", map[string]string{"mqtt3": "QUEUED SENT($p) DELIVERED($p) FAILED($p)"}},
	{"release and retry", func(c *cell) string {
		d := c.sit(c.protocol)
		defer func() { d.cut() }()
		id := c.send()
		p := c.take(d, id, false)
		if strings.HasPrefix(c.protocol, "mqtt") { // which can only leave
			d.cut()
			d = c.sit(c.protocol)
		} else {
			c.must(p.settle(c.Context(), "release"))
		}
		c.carryOut(d, id, true)
		return id
	}, "QUEUED SENT($p) QUEUED:released SENT2($p) DELIVERED($p) SUCCEEDED($p)", map[string]string{
		"mqtt3": "QUEUED SENT($p) QUEUED:$lost SENT2($p) DELIVERED($p) SUCCEEDED($p)",
		"mqtt5": "QUEUED SENT($p) QUEUED:$lost SENT2($p) DELIVERED($p) SUCCEEDED($p)"}},
	{"no answer until time-out", func(c *cell) string {
		d := c.sit(c.protocol)
		defer d.cut()
		c.request.ResponseTimeout = durationpb.New(time.Second)
		id := c.send()
		c.must(c.take(d, id, false).settle(c.Context(), "accept"))
		c.reaches(id, "DELIVERED")
		return id
	}, "QUEUED SENT($p) DELIVERED($p) FAILED:no answer within 1s", nil},
	{"expire while offline", func(c *cell) string {
		c.leave(c.sit(c.protocol))
		c.request.Ttl = durationpb.New(time.Second)
		id := c.send()
		c.reaches(id, "EXPIRED")
		d := c.sit(c.protocol)
		defer d.cut()
		c.idle(d)
		return id
	}, "QUEUED EXPIRED:deadline", nil},
	{"duplicate send with one key", func(c *cell) string {
		d := c.sit(c.protocol)
		defer d.cut()
		c.request.Key = "mine"
		id := c.send()
		if again := c.send(); again != id {
			c.Errorf("the second send made command %s beside %s", again, id)
		}
		c.carryOut(d, id, false)
		if again := c.send(); again != id {
			c.Errorf("a send after its end made command %s beside %s", again, id)
		}
		c.idle(d)
		return id
	}, "QUEUED SENT($p) DELIVERED($p) SUCCEEDED($p)", nil},
	{"session lost between sent and delivered", func(c *cell) string {
		d := c.sit(c.protocol)
		id := c.send()
		c.take(d, id, false)
		d.cut()
		d = c.sit(c.protocol)
		defer d.cut()
		c.carryOut(d, id, true)
		return id
	}, "QUEUED SENT($p) QUEUED:$lost SENT2($p) DELIVERED($p) SUCCEEDED($p)", nil},
}

// TestOneLifeOnEveryProtocol is the table: the same thing happens to a command on
// each protocol, and leaves the same trail.
func TestOneLifeOnEveryProtocol(t *testing.T) {
	s := serve(t, t.TempDir(), "--open")
	t.Run("table", func(t *testing.T) {
		for _, col := range columns {
			for _, protocol := range protocols {
				t.Run(col.name+"/"+protocol, func(t *testing.T) {
					t.Parallel()
					c := newCell(t, s, protocol, col.name)
					id := col.act(c)
					c.trailIs(id, col)
				})
			}
		}
	})
	s.stop()
}

// deaths are the states in which a command's server is killed: what is done before
// and after, and the trail.
var deaths = []struct {
	state  string
	before func(c *cell) (id string)
	after  func(c *cell, d seat, id string)
	trail  string
}{
	{"QUEUED", func(c *cell) string { return c.send() }, func(c *cell, d seat, id string) { c.carryOut(d, id, false) },
		"QUEUED SENT($p) DELIVERED($p) SUCCEEDED($p)"},
	{"SENT", func(c *cell) string {
		d := c.sit(c.protocol)
		id := c.send()
		c.take(d, id, false)
		return id
	}, func(c *cell, d seat, id string) { c.carryOut(d, id, true) },
		"QUEUED SENT($p) QUEUED:session lost SENT2($p) DELIVERED($p) SUCCEEDED($p)"},
	{"DELIVERED", func(c *cell) string {
		d := c.sit(c.protocol)
		id := c.send()
		c.must(c.take(d, id, false).settle(c.Context(), "accept"))
		return id
	}, func(c *cell, d seat, id string) { c.must(d.respond(c.Context(), id, 200)) },
		"QUEUED SENT($p) DELIVERED($p) SUCCEEDED($p)"},
	{"SUCCEEDED", func(c *cell) string {
		d := c.sit(c.protocol)
		id := c.send()
		c.carryOut(d, id, false)
		return id
	}, func(c *cell, d seat, id string) { c.idle(d) },
		"QUEUED SENT($p) DELIVERED($p) SUCCEEDED($p)"},
	{"EXPIRED", func(c *cell) string {
		c.request.Ttl = durationpb.New(time.Second)
		return c.send()
	}, func(c *cell, d seat, id string) { c.idle(d) },
		"QUEUED EXPIRED:deadline"},
}

// TestOneLifeOverAKill is the table's last column: the server is killed once, with
// commands in every state on every protocol, and started again.
func TestOneLifeOverAKill(t *testing.T) {
	data := t.TempDir()
	s := serve(t, data, "--open")
	type life struct {
		c     *cell
		id    string
		death int
	}
	var lives []life
	for i, death := range deaths {
		for _, protocol := range protocols {
			c := newCell(t, s, protocol, "killed "+death.state)
			id := death.before(c)
			c.reaches(id, death.state)
			lives = append(lives, life{c, id, i})
		}
	}
	s.kill()
	s = serve(t, data, "--open")
	t.Run("killed", func(t *testing.T) {
		for _, l := range lives {
			t.Run(deaths[l.death].state+"/"+l.c.protocol, func(t *testing.T) {
				t.Parallel()
				c := newCell(t, s, l.c.protocol, "killed "+deaths[l.death].state)
				d := c.sit(c.protocol)
				defer d.cut()
				deaths[l.death].after(c, d, l.id)
				c.trailIs(l.id, column{trail: deaths[l.death].trail})
			})
		}
	})
	s.stop()
}

func newCell(t *testing.T, s *server, protocol, column string) *cell {
	name := strings.NewReplacer(" ", "-", ",", "").Replace(column) + "-" + protocol
	return &cell{T: t, s: s, protocol: protocol, device: name,
		request: &pb.SendCommandRequest{Parent: api.DeviceName("default", name), Command: "heat", Payload: []byte("1")}}
}

func (c *cell) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *cell) next() string {
	return protocols[(slices.Index(protocols, c.protocol)+1)%len(protocols)]
}

// sit brings the device to a door. The lock is short only where it has to run out.
func (c *cell) sit(protocol string) seat {
	c.Helper()
	lock := time.Minute
	if strings.Contains(c.device, "session-lost") {
		lock = 2 * time.Second
	}
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	d, err := seats[protocol](ctx, c.s, c.device, lock)
	c.must(err)
	return d
}

func (c *cell) send() (id string) {
	c.Helper()
	sent, err := pb.NewCommandServiceClient(apiOf(c.T, c.s)).SendCommand(c.Context(), c.request)
	c.must(err)
	return sent.GetId()
}

// take waits for the very command, shown as a repeat or not.
func (c *cell) take(d seat, id string, repeat bool) *parcel {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	p, err := d.take(ctx)
	c.must(err)
	if p.id != id || p.repeat != repeat {
		c.Fatalf("command %s came, shown as a repeat: %v; want %s and %v", p.id, p.repeat, id, repeat)
	}
	return p
}

// carryOut takes the command, and answers once its receipt is recorded.
func (c *cell) carryOut(d seat, id string, repeat bool) {
	c.Helper()
	c.must(c.take(d, id, repeat).settle(c.Context(), "accept"))
	c.reaches(id, "DELIVERED")
	c.must(d.respond(c.Context(), id, 200))
}

// comeBack has the device known to its own door, away when the command is sent,
// and then at another.
func (c *cell) comeBack(to string) string {
	d := c.sit(c.protocol)
	first := c.send()
	c.carryOut(d, first, false)
	c.reaches(first, "SUCCEEDED")
	c.leave(d)
	id := c.send()
	d = c.sit(to)
	defer d.cut()
	c.carryOut(d, id, false)
	return id
}

// leave cuts the device's connection, and waits until the house knows.
func (c *cell) leave(d seat) {
	c.Helper()
	if c.protocol == "https" { // has none
		d.cut()
		return
	}
	listed := func(n int) func() bool {
		return func() bool {
			page, err := pb.NewPresenceServiceClient(apiOf(c.T, c.s)).ListSessions(c.Context(), &pb.ListSessionsRequest{Parent: c.request.Parent})
			return err == nil && len(page.GetSessions()) == n
		}
	}
	eventually(c.T, "the session", listed(1)) // or it would seem to have ended before it is told of
	d.cut()
	eventually(c.T, "the session's end", listed(0))
}

// idle holds that nothing but a new command comes.
func (c *cell) idle(d seat) {
	c.Helper()
	c.request.Key, c.request.Ttl = "", nil
	c.carryOut(d, c.send(), false)
}

func (c *cell) get(id string) *pb.Command {
	c.Helper()
	cmd, err := pb.NewCommandServiceClient(apiOf(c.T, c.s)).GetCommand(c.Context(), &pb.GetCommandRequest{Name: api.CommandName("default", "", id)})
	c.must(err)
	return cmd
}

// reaches waits until a state is in the command's trail.
func (c *cell) reaches(id, state string) {
	c.Helper()
	eventually(c.T, state, func() bool {
		return slices.ContainsFunc(c.get(id).GetEvents(), func(e *pb.CommandEvent) bool { return stateName(e.GetState()) == state })
	})
}

// trailIs waits for the command's end and compares.
func (c *cell) trailIs(id string, col column) {
	c.Helper()
	want := col.trail
	if own, ok := col.except[c.protocol]; ok {
		want = own
	}
	words := map[string]string{"mqtt3": "mqtt", "mqtt5": "mqtt", "amqp": "amqp", "https": "http"}
	lost := map[string]string{"mqtt3": "disconnected", "mqtt5": "disconnected", "amqp": "connection lost", "https": "lock expired"}
	want = strings.NewReplacer("$p", words[c.protocol], "$q", words[c.next()], "$lost", lost[c.protocol]).Replace(want)
	eventually(c.T, "the command's end", func() bool { return ended(c.get(id)) })
	if got := trailOf(c.get(id)); got != want {
		c.Errorf("the trail is\n  %s, want\n  %s", got, want)
	}
}

// trailOf writes a trail: each state with the attempt above the first, the
// protocol, and why where nobody chose it.
func trailOf(cmd *pb.Command) string {
	var steps []string
	for i, e := range cmd.GetEvents() {
		step := stateName(e.GetState())
		switch {
		case step == "SENT" && e.GetAttempt() > 1:
			step += fmt.Sprint(e.GetAttempt())
		case step == "QUEUED" && i > 0, step == "EXPIRED", step == "FAILED" && e.GetStatus() == 0:
			steps = append(steps, step+":"+e.GetReason())
			continue
		}
		if e.GetProtocol() != "" {
			step += "(" + e.GetProtocol() + ")"
		}
		steps = append(steps, step)
	}
	return strings.Join(steps, " ")
}
