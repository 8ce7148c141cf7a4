package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

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
