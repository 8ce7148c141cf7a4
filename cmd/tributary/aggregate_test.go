package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestAggregate puts what a device sent in buckets, by the time it says it
// measured, and asks as a person and as a program.
func TestAggregate(t *testing.T) {
	s := serve(t, t.TempDir(), "--open")
	send, done, err := sendHTTP(t.Context(), s, "dev1")
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for i := range 60 { // every 20 s for 20 minutes, the newest first: order does not matter
		at := noon.Add(time.Duration(59-i) * 20 * time.Second)
		if err := send(fmt.Appendf(nil, `{"time":"%s","temperature":%d,"state":"%s"}`, at.Format(time.RFC3339), 59-i, []string{"on", "off"}[i%2])); err != nil {
			t.Fatal(err)
		}
	}
	type bucket struct {
		Start              time.Time
		Count, Numbers     string
		Avg, Min, Max, Sum *float64
		First, Last        *struct{ DoubleValue, StringValue any }
	}
	rows := parseLines[bucket](t, s.client("query", "--device", "dev1", "--name", "temperature", "--step", "5m", "--agg", "avg,max", "-o", "json"))
	if len(rows) != 4 {
		t.Fatalf("%d buckets of 5 minutes in 20", len(rows))
	}
	for i, b := range rows {
		if !b.Start.Equal(noon.Add(time.Duration(i)*5*time.Minute)) || b.Avg == nil || *b.Avg != float64(15*i+7) || b.Max == nil || *b.Max != float64(15*i+14) ||
			b.Min != nil || b.Sum != nil || b.First != nil || b.Count != "" {
			t.Errorf("bucket %d is %+v", i, b)
		}
	}
	if got := s.rest("/v1/tenants/default/devices/dev1/telemetry:aggregate?channel=room&measurement=temperature&step=600s"); strings.Count(got, `"start"`) != 2 {
		t.Errorf("REST answers %s", got)
	}
	table := s.client("query", "--device", "dev1", "--name", "state", "--step", "24h", "--agg", "count,first,last,min")
	if fields := strings.Fields(table); len(fields) != 11 || strings.Join(fields[7:], " ") != "60 off on -" {
		t.Errorf("the table is\n%s", table)
	}
	if out, err := s.tryClient("query", "--device", "dev1", "--step", "5m"); err == nil || !strings.Contains(out, "--name") {
		t.Errorf("without --name: %v, %s", err, out)
	}
}
