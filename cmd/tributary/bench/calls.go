package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// callsCase measures commands: how long a call takes, and how fast a batch goes.
const callsCase = "calls-strict"

// batchDevices are the MQTT connections that a batch is sent to.
const batchDevices = 500

// callFigures are what the case found. A call is durable four times on its way
// (QUEUED, SENT, DELIVERED, SUCCEEDED), a NATS request never.
type callFigures struct {
	call, request result
	batch         time.Duration
}

// measureCalls makes one call after the other to an MQTT device that answers at
// once, then one request after the other to a NATS responder in this process, each
// for o.For, and sends one batch.
func measureCalls(ctx context.Context, o Options) (f callFigures, err error) {
	srv, err := startServer(ctx, callsCase, o)
	if err != nil {
		return f, err
	}
	defer srv.remove()
	defer srv.stop()
	token, err := os.ReadFile(filepath.Join(srv.dir, "admin.token"))
	if err != nil {
		return f, err
	}
	conn, err := grpc.NewClient(srv.addresses["grpc"], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return f, err
	}
	defer conn.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+strings.TrimSpace(string(token)))
	devices, err := obedient(ctx, srv.addresses["mqtt"], batchDevices)
	defer func() {
		for _, d := range devices {
			d.Disconnect(0)
		}
	}()
	if err != nil {
		return f, err
	}
	if f.call, err = oneAfterAnother(ctx, o.For, func(ctx context.Context) error {
		_, err := pb.NewCommandServiceClient(conn).Call(ctx, &pb.CallRequest{Parent: "tenants/default/devices/bench-0", Command: "read", Payload: payload(0, 0)})
		return err
	}); err != nil {
		return f, err
	}
	if f.batch, err = oneBatch(ctx, pb.NewCommandBatchServiceClient(conn)); err != nil {
		return f, err
	}
	f.request, err = natsRequests(ctx, o.For)
	return f, err
}

// obedient connects devices that answer every command at once.
func obedient(ctx context.Context, addr string, n int) ([]mqtt.Client, error) {
	devices := make([]mqtt.Client, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range devices {
		devices[i] = mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(fmt.Sprint("bench-", i)).
			SetProtocolVersion(4).SetAutoReconnect(false).SetOrderMatters(false))
		group.Go(func() error {
			if err := finished(ctx, devices[i].Connect()); err != nil {
				return err
			}
			return finished(ctx, devices[i].Subscribe("commands/#", 1, func(c mqtt.Client, m mqtt.Message) {
				id := strings.Split(m.Topic(), "/")[1]
				c.Publish("responses/"+id+"/200", 1, false, "done")
			}))
		})
	}
	return devices, group.Wait()
}

func finished(ctx context.Context, t mqtt.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// oneAfterAnother measures round trips for a while.
func oneAfterAnother(ctx context.Context, during time.Duration, once func(context.Context) error) (r result, err error) {
	began := time.Now()
	for time.Since(began) < during {
		start := time.Now()
		if err := once(ctx); err != nil {
			return r, err
		}
		r.latencies = append(r.latencies, time.Since(start))
	}
	r.acked, r.elapsed = len(r.latencies), time.Since(began)
	r.parts, r.latencies = [][]time.Duration{r.latencies}, nil
	r.sort()
	return r, nil
}

// oneBatch is the time from making a batch until the last device's command has ended.
func oneBatch(ctx context.Context, client pb.CommandBatchServiceClient) (time.Duration, error) {
	var devices []string
	for i := range batchDevices {
		devices = append(devices, fmt.Sprint("bench-", i))
	}
	began := time.Now()
	made, err := client.CreateCommandBatch(ctx, &pb.CreateCommandBatchRequest{Parent: "tenants/default", CommandBatch: &pb.CommandBatch{Command: "read", Devices: devices}})
	if err != nil {
		return 0, err
	}
	stream, err := client.WatchCommandBatch(ctx, &pb.WatchCommandBatchRequest{Name: made.GetName()})
	for err == nil {
		var b *pb.CommandBatch
		if b, err = stream.Recv(); err == nil {
			made = b
		}
	}
	if !errors.Is(err, io.EOF) {
		return 0, err
	}
	if n := made.GetProgress().GetSucceeded(); n != batchDevices {
		return 0, fmt.Errorf("%d of %d devices of the batch succeeded", n, batchDevices)
	}
	return made.GetEndTime().AsTime().Sub(began), nil
}

// natsRequests measures plain request-reply on a NATS server in this process, over
// loopback like the rest, between two connections.
func natsRequests(ctx context.Context, during time.Duration) (r result, err error) {
	ns, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		return r, err
	}
	go ns.Start()
	defer ns.Shutdown()
	if !ns.ReadyForConnections(10 * time.Second) {
		return r, errors.New("the NATS server to compare with does not start")
	}
	responder, err := nats.Connect(ns.ClientURL())
	if err != nil {
		return r, err
	}
	defer responder.Close()
	if _, err := responder.Subscribe("device", func(m *nats.Msg) { _ = m.Respond([]byte("done")) }); err != nil {
		return r, err
	}
	if err := responder.Flush(); err != nil {
		return r, err
	}
	requester, err := nats.Connect(ns.ClientURL())
	if err != nil {
		return r, err
	}
	defer requester.Close()
	return oneAfterAnother(ctx, during, func(ctx context.Context) error {
		_, err := requester.RequestWithContext(ctx, "device", payload(0, 0))
		return err
	})
}

func reportCalls(out io.Writer, f callFigures, o Options) {
	fmt.Fprintf(out, "\none after another for %s each: a call of an MQTT device, every step fsynced, and a request over plain NATS, kept nowhere\n\n", o.For)
	const columns = "%-14s %10s %10s %10s\n"
	fmt.Fprintf(out, columns, "round trip", "a second", "p50", "p99")
	for _, row := range []struct {
		name string
		r    result
	}{{"call, MQTT", f.call}, {"NATS request", f.request}} {
		fmt.Fprintf(out, columns, row.name, fmt.Sprintf("%.0f", row.r.rate()),
			row.r.quantile(0.5).Round(10*time.Microsecond).String(), row.r.quantile(0.99).Round(10*time.Microsecond).String())
	}
	fmt.Fprintf(out, "\na batch to %d MQTT devices that answer: %s, %.0f devices a second\n", batchDevices, f.batch.Round(time.Millisecond), batchDevices/f.batch.Seconds())
}
