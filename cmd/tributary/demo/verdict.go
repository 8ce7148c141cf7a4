package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"google.golang.org/grpc"

	tributaryv1 "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// verdict holds the server to the devices' ledgers: every reading it
// acknowledged must come back through Query, once.
func verdict(ctx context.Context, out io.Writer, conn *grpc.ClientConn, w *world) error {
	fmt.Fprintf(out, "\nSummary\n  %-6s %10s %10s %10s %10s   %s\n", "door", "acked", "stored", "missing", "twice", "commands")
	tally, failed := w.tally(), false
	for _, d := range doors {
		var acked, stored, missing, twice int
		for _, t := range w.thermostats {
			if t.door.protocol != d.protocol {
				continue
			}
			copies, err := countCopies(ctx, newClients(conn).telemetry, t.name)
			if err != nil {
				return fmt.Errorf("demo: query %s: %w", t.name, err)
			}
			acked += len(t.acked)
			for _, n := range copies {
				stored++
				if n > 1 {
					twice++
				}
			}
			for n := range t.acked {
				if copies[n] == 0 {
					missing++
				}
			}
		}
		fmt.Fprintf(out, "  %-6s %10d %10d %10d %10d   %v\n", d.protocol, acked, stored, missing, twice, states(tally[d.protocol]))
		failed = failed || missing > 0 || twice > 0 || acked == 0
	}
	if failed {
		return ErrVerdict
	}
	fmt.Fprintln(out, "  every acknowledged message is in the store, once")
	return nil
}

// countCopies answers how often each reading of a device is in the store.
func countCopies(ctx context.Context, c tributaryv1.TelemetryServiceClient, name string) (map[int]int, error) {
	copies, token := map[int]int{}, ""
	for {
		page, err := c.Query(ctx, &tributaryv1.QueryRequest{Parent: parent(name), PageSize: 1000, PageToken: token})
		if err != nil {
			return nil, err
		}
		for _, m := range page.Messages {
			var r reading
			if err := json.Unmarshal(m.Payload, &r); err == nil && r.N > 0 {
				copies[r.N]++
			}
		}
		if token = page.NextPageToken; token == "" {
			return copies, nil
		}
	}
}

func states(counts map[string]int) string {
	if len(counts) == 0 {
		return "none"
	}
	text, err := json.Marshal(counts)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
