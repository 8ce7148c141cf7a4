package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	amqpConnections = 10
	amqpInFlight    = 50

	// ackPatience is how long a load waits for an ack once its time is up.
	ackPatience = 10 * time.Second
)

// loadAMQP sends unsettled transfers and waits for accepted.
func loadAMQP(ctx context.Context, addr string, _ Options) (result, error) {
	return sendAMQP(ctx, addr, amqpSASL{mechanism: "ANONYMOUS"}, func(name string) string { return name + "/telemetry/line" })
}

// sendAMQP sends to the target of each connection's name.
func sendAMQP(ctx context.Context, addr string, sasl amqpSASL, target func(name string) string) (result, error) {
	return fanOut(ctx, amqpConnections, func(ctx context.Context, i int) (result, error) {
		name := fmt.Sprintf("bench-%d", i)
		c, err := dialAMQP(ctx, addr, name, target(name), sasl)
		if err != nil {
			return result{}, err
		}
		defer c.conn.Close()
		return c.publish(ctx, amqpInFlight, payloads(i))
	})
}

// fanOut runs one load a connection and joins what they saw.
func fanOut(ctx context.Context, connections int, run func(ctx context.Context, i int) (result, error)) (result, error) {
	results, errs := make([]result, connections), make([]error, connections)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range connections {
		wg.Go(func() { results[i], errs[i] = run(ctx, i) })
	}
	wg.Wait()
	all := result{elapsed: time.Since(start)}
	for _, r := range results {
		all.merge(r)
	}
	return all, errors.Join(errs...)
}
