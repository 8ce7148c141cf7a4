package pipeline

import (
	"encoding/json"
	"testing"
)

// FuzzParseStored holds the short way of reading a stream's reply to what a
// JSON decoder reads.
func FuzzParseStored(f *testing.F) {
	for _, reply := range []string{`{"stream":"TELEMETRY","seq":123}`, `{"stream":"T","seq":18446744073709551616}`, `{"stream":"T","seq":1,"duplicate":true}`, `{"error":{"code":503}}`} {
		f.Add([]byte(reply))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		seq, ok := parseStored(data)
		var full struct {
			Seq uint64 `json:"seq"`
		}
		if err := json.Unmarshal(data, &full); ok && err == nil && full.Seq != seq {
			t.Fatalf("%s is %d, not %d", data, full.Seq, seq)
		}
	})
}
