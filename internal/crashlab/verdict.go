package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// tally is a verdict in numbers.
type tally struct {
	Acked       int // messages acknowledged to a device
	Lost        int // of them, not what Query answers
	TwicePlaces int // places in the stream that are stored more than once, and keyless messages that are
	TwiceKeys   int // keyed messages stored more than once
	Reordered   int // messages sent and acknowledged once, stored before an older one of their device
	Foreign     int // stored, and no device said that
	Unknown     int // sent and never acknowledged
	Stored      int // of the unknown, those that are there
	Repeated    int // messages that were sent more than once
	Stuck       int // rounds in which the server did not come back by itself

	Starts  int           // of the server
	Slowest time.Duration // from the end of a fault until it acknowledged again
}

func (t *tally) add(o tally) {
	t.Acked += o.Acked
	t.Lost += o.Lost
	t.TwicePlaces += o.TwicePlaces
	t.TwiceKeys += o.TwiceKeys
	t.Reordered += o.Reordered
	t.Foreign += o.Foreign
	t.Unknown += o.Unknown
	t.Stored += o.Stored
	t.Repeated += o.Repeated
	t.Stuck += o.Stuck
	t.Starts += o.Starts
	t.Slowest = max(t.Slowest, o.Slowest)
}

// broken is how many violations there are, without those of Lost.
func (t *tally) broken() int {
	return t.TwicePlaces + t.TwiceKeys + t.Reordered + t.Foreign + t.Stuck
}

// more is what is good to know beside the verdict.
func (t *tally) more() string {
	return fmt.Sprintf("%d sent more than once, %d of the unknown are stored, %d starts of the server, slowest return %s",
		t.Repeated, t.Stored, t.Starts, t.Slowest.Round(time.Millisecond))
}

func (t tally) String() string {
	text := fmt.Sprintf("acked %d, lost %d, duplicated %d (position), duplicated %d (key), reordered %d, unknown %d", t.Acked, t.Lost, t.TwicePlaces, t.TwiceKeys, t.Reordered, t.Unknown)
	if t.Foreign > 0 {
		text += fmt.Sprintf(", foreign %d", t.Foreign)
	}
	if t.Stuck > 0 {
		text += fmt.Sprintf(", stuck %d", t.Stuck)
	}
	return text
}

// row is a message as Query answers it.
type row struct {
	n          int // 0: no device said that
	key        string
	epoch, seq uint64
}

// asker asks the victim's store.
type asker struct {
	conn  *grpc.ClientConn
	query pb.TelemetryServiceClient
}

// bearer carries the operator's token on every call.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity is false: the victim listens on loopback.
func (b bearer) RequireTransportSecurity() bool { return false }

func ask(v *victim) (*asker, error) {
	token, err := v.token()
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(v.door("grpc"), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(bearer(token)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(256<<20)))
	if err != nil {
		return nil, err
	}
	return &asker{conn, pb.NewTelemetryServiceClient(conn)}, nil
}

// rows answers what is stored of a device, in no order: all of it, or the newest
// page.
func (a *asker) rows(ctx context.Context, name string, page int32, all bool) (list []row, err error) {
	request := &pb.QueryRequest{Parent: "tenants/default/devices/" + name, PageSize: page}
	for {
		answer, err := a.query.Query(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("query %s: %w", name, err)
		}
		for _, m := range answer.Messages {
			r, err := readRow(name, m)
			if err != nil {
				return nil, err
			}
			list = append(list, r)
		}
		if request.PageToken = answer.NextPageToken; request.PageToken == "" || !all {
			return list, nil
		}
	}
}

// readRow compares a message with what the device said.
func readRow(name string, m *pb.Message) (row, error) {
	at, err := devicepb.DecodePosition(m.GetPosition())
	if err != nil {
		return row{}, fmt.Errorf("query %s: %w", name, err)
	}
	var said struct{ N int }
	r := row{key: m.GetKey(), epoch: at.Epoch, seq: at.Seq}
	if json.Unmarshal(m.GetPayload(), &said) == nil && said.N > 0 && bytes.Equal(m.GetPayload(), payload(said.N)) {
		if sent := (message{n: said.N}); sent.key(name) == r.key {
			r.n = said.N
		}
	}
	return r, nil
}

// missing are the acknowledged messages that rows do not hold.
func missing(known []message, rows []row) (list []message) {
	there := map[int]bool{}
	for _, r := range rows {
		there[r.n] = true
	}
	for _, m := range known {
		if m.acked && !there[m.n] {
			list = append(list, m)
		}
	}
	return list
}

// judge holds everything stored of a device to what the device knows.
func judge(name string, known []message, rows []row, say func(string, ...any)) (t tally) {
	copies, places := map[int]int{}, map[[2]uint64]int{}
	for _, r := range rows {
		places[[2]uint64{r.epoch, r.seq}]++
		if copies[r.n]++; r.n == 0 || r.n > len(known) {
			t.Foreign++
			say("%s: a message is stored that it did not send, at %d/%d with key %q", name, r.epoch, r.seq, r.key)
		}
	}
	for place, n := range places {
		if n > 1 {
			t.TwicePlaces += n - 1
			say("%s: position %v is stored %d times", name, place, n)
		}
	}
	for _, m := range missing(known, rows) {
		t.Lost++
		say("%s: message %d is lost; it was acknowledged in round %d, sent %d times", name, m.n, m.round, m.sends)
	}
	for _, m := range known {
		t.count(&m, copies[m.n], name, say)
	}
	t.Reordered = reordered(name, known, rows, say)
	return t
}

func (t *tally) count(m *message, copies int, name string, say func(string, ...any)) {
	switch {
	case copies > 1 && m.keyed():
		t.TwiceKeys += copies - 1
		say("%s: message %d is stored %d times under its key; it was sent %d times", name, m.n, copies, m.sends)
	case copies > 1:
		t.TwicePlaces += copies - 1
		say("%s: message %d has no key, was sent once and is stored %d times", name, m.n, copies)
	}
	if m.sends > 1 {
		t.Repeated++
	}
	if m.acked {
		t.Acked++
		return
	}
	t.Unknown++
	if copies > 0 {
		t.Stored++
	}
}

// reordered looks at the messages that were sent once and acknowledged: they
// must stand in the stream in the order in which the device counted. What was
// sent again may be stored behind what came after its first try.
func reordered(name string, known []message, rows []row, say func(string, ...any)) (n int) {
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.seq, b.seq)) })
	last := 0
	for _, r := range rows {
		if r.n == 0 || r.n > len(known) || known[r.n-1].sends != 1 || !known[r.n-1].acked {
			continue
		}
		if r.n < last {
			n++
			say("%s: message %d is stored behind %d", name, r.n, last)
		}
		last = max(last, r.n)
	}
	return n
}

// comeBack waits until every acknowledged message of the devices is in the
// store, and answers those that did not come within patience.
func comeBack(ctx context.Context, v *victim, devices []*device, since map[string]int, patience time.Duration) (lost []string, err error) {
	a, err := ask(v)
	if err != nil {
		return nil, err
	}
	defer a.conn.Close()
	ctx, cancel := context.WithTimeout(ctx, patience+30*time.Second)
	defer cancel()
	end := time.Now().Add(patience)
	for _, d := range devices {
		known := d.known()
		recent := known[since[d.name]:]
		for {
			rows, err := a.rows(ctx, d.name, int32(min(len(recent)+100, 10_000)), false)
			if err != nil && time.Now().After(end) {
				return nil, err
			}
			gone := missing(recent, rows)
			if err == nil && len(gone) == 0 {
				break
			}
			if time.Now().After(end) {
				lost = append(lost, fmt.Sprintf("%s %s", d.name, counters(gone)))
				break
			}
			if !wait(ctx, 200*time.Millisecond) {
				return nil, ctx.Err()
			}
		}
		since[d.name] = settled(known)
	}
	return lost, nil
}

// settled is how many messages from the first on need not be looked at again:
// they were acknowledged, or will never be.
func settled(known []message) int {
	for i, m := range known {
		if !m.acked && m.keyed() {
			return i
		}
	}
	return len(known)
}

func counters(list []message) string {
	var text []string
	for _, m := range list {
		text = append(text, fmt.Sprint(m.n))
	}
	return strings.Join(text, " ")
}
