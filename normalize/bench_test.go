package normalize_test

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/normalize"
)

// flat is the telemetry most devices send: 200 bytes, three values.
var flat = `{"temperature":21.53,"humidity":40,"state":"` + strings.Repeat("x", 144) + `"}`

func BenchmarkFlatJSON(b *testing.B)   { benchmark(b, "application/json", flat) }
func BenchmarkSniffJSON(b *testing.B)  { benchmark(b, "", flat) }
func BenchmarkPlainValue(b *testing.B) { benchmark(b, "", "21.5") }
func BenchmarkRecords(b *testing.B) {
	benchmark(b, "application/json", `[`+strings.Repeat(`{"ts":1700000000123,"v":1.25},`, 99)+`{"v":1}]`)
}

func benchmark(b *testing.B, contentType, payload string) {
	raw := []byte(payload)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		m := device.Message{ContentType: contentType, Payload: raw, ReceivedAt: received}
		if err := normalize.Message(&m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTokensOnly is the yardstick of the own walk: the tokens of the same
// text read by jsontext, with no numbers parsed and no measurements made.
func BenchmarkTokensOnly(b *testing.B) {
	b.ReportAllocs()
	var in strings.Reader
	d := jsontext.NewDecoder(&in, jsontext.AllowDuplicateNames(true))
	for b.Loop() {
		in.Reset(flat)
		d.Reset(&in, jsontext.AllowDuplicateNames(true))
		for d.PeekKind() != jsontext.KindInvalid {
			if _, err := d.ReadToken(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
