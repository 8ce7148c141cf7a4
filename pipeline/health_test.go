package pipeline

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestWhoIsBelieved: what a server says of its health, and what that is worth.
func TestWhoIsBelieved(t *testing.T) {
	const fine, sick = `{"status":"ok"}`, `{"status":"error","errors":[{"type":"STREAM","account":"A","stream":"TELEMETRY","error":"JetStream stream 'A > TELEMETRY' write error: EIO"}]}`
	for _, c := range []struct {
		what, version, cluster, says string
		copies                       int
		well, failed                 bool
	}{
		{"alone", "2.15.2", "", fine, 1, true, false},
		{"alone, sick", "2.15.2", "", sick, 1, false, true},
		{"silent", "2.15.2", "", "", 1, false, false},
		{"too old to tell", "2.12.9", "", fine, 1, false, false},
		{"one copy on a cluster, which does not tell", "2.15.2", "c", fine, 1, false, false},
		{"three copies", "2.15.2", "c", fine, 3, true, false},
		{"three copies, one sick", "2.15.2", "c", sick, 3, false, true},
		{"another stream is sick", "2.15.2", "", strings.ReplaceAll(sick, "TELEMETRY", "OTHERS"), 1, true, false},
		{"a consumer is behind", "2.15.2", "c", strings.ReplaceAll(sick, "STREAM", "CONSUMER"), 3, true, false},
		{"catching up", "2.15.2", "c", strings.ReplaceAll(sick, "write error: EIO", "is not current: stream catching up"), 3, false, false},
		{"cannot write what all depends on", "2.15.2", "c", `{"errors":[{"type":"JETSTREAM","error":"JetStream meta layer write error: EIO"}]}`, 3, false, true},
		{"not in contact", "2.15.2", "c", `{"errors":[{"type":"JETSTREAM","error":"JetStream has not established contact with a meta leader"}]}`, 3, false, false},
	} {
		f := serverFacts{Name: "n0", Version: c.version}
		f.Cluster.Name = c.cluster
		if c.says != "" {
			f.health = &health{}
			if err := json.Unmarshal([]byte(c.says), f.health); err != nil {
				t.Fatal(err)
			}
		}
		if well, failed := f.well(TelemetryStream, c.copies), f.failed(TelemetryStream); (well == nil) != c.well || (failed != nil) != c.failed {
			t.Errorf("%s: well: %v; failed: %v", c.what, well, failed)
		}
	}
}

// TestHowManyMustBeSick: one of three does not keep the others from being believed, and
// a server that was asked in two ways counts once.
func TestHowManyMustBeSick(t *testing.T) {
	sick := &health{Errors: []healthError{{Type: "STREAM", Stream: TelemetryStream, Error: "write error: EIO"}}}
	n0, n1, n2 := serverFacts{ID: "A", Name: "n0", health: sick}, serverFacts{ID: "B", Name: "n1", health: sick}, serverFacts{ID: "C", Name: "n2", health: &health{}}
	silent := n0
	silent.health = nil
	three := []copies{{stream: TelemetryStream, wanted: 3, servers: []string{"n0", "n1", "n2"}}}
	for what, c := range map[string]struct {
		kept   []copies
		facts  []serverFacts
		failed int
		sick   bool
	}{
		"none of three":      {three, []serverFacts{n2}, 0, false},
		"one of three":       {three, []serverFacts{n0, n2}, 1, false},
		"one, asked twice":   {three, []serverFacts{silent, n0, n0}, 1, false},
		"two of three":       {three, []serverFacts{n0, n1, n2}, 2, true},
		"the one":            {[]copies{{TelemetryStream, 1, []string{"n0"}}}, []serverFacts{n0, n1}, 1, true},
		"one that keeps not": {[]copies{{TelemetryStream, 1, []string{"n2"}}}, []serverFacts{n0, n1, n2}, 0, false},
	} {
		if failed, sick := unwritten(c.kept, once(c.facts)); len(failed) != c.failed || (sick != nil) != c.sick {
			t.Errorf("%s: %q, %v", what, failed, sick)
		}
	}
}
