package natsdoor

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// FuzzAdmit: whatever a reader writes, the consumer it gets delivers to nobody
// but who pulls, reads within the root and is bounded.
func FuzzAdmit(f *testing.F) {
	for _, seed := range []string{
		`{"name":"c"}`, `{"durable_name":"c","ack_policy":"explicit","filter_subject":"telemetry.a.>"}`,
		`{"name":"c","deliver_subject":"command.a.b"}`, `{"name":"c","max_ack_pending":-1,"max_waiting":9999999}`,
		`{"name":"c","backoff":[1,2,3],"inactive_threshold":-5,"metadata":{"_nats.level":"1"}}`,
		`{"name":"c","filter_subjects":[">","telemetry.\r\n"]}`,
	} {
		f.Add([]byte(seed))
	}
	cfg, err := Config{Server: noServer{}, Stream: "TELEMETRY", Root: "telemetry", Inbox: "_INBOX.", Delivery: "_READERS."}.withDefaults()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var want jetstream.ConsumerConfig
		if json.NewDecoder(bytes.NewReader(body)).Decode(&want) != nil {
			return
		}
		got, err := cfg.admit(&want)
		if err != nil {
			return
		}
		for _, filter := range append([]string{got.FilterSubject}, got.FilterSubjects...) {
			if filter != "" && filter != ">" && !strings.HasPrefix(filter, "telemetry.") || strings.ContainsAny(filter, " \r\n") {
				t.Errorf("reads %q", filter)
			}
		}
		if got.DeliverSubject != "" || got.InactiveThreshold <= 0 || got.InactiveThreshold > maxAwayLimit || got.MaxWaiting <= 0 || got.MaxWaiting > maxOpenPulls ||
			got.MaxAckPending < 0 || got.MaxAckPending > maxAckPending || got.Replicas != 1 || !goodName.MatchString(got.Name) || got.Durable == "" && !got.MemoryStorage {
			t.Errorf("%s is given %+v", body, got)
		}
	})
}

type noServer struct{ Server }
