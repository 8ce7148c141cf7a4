package main

import (
	"strings"
	"testing"
)

// formats is what each shell block of docs/formats.md must print. A query waits
// for what was acknowledged before it.
var formats = []struct {
	about string
	shows []string
	count map[string]int // how often something must be printed
}{
	{"json1", []string{"motor.rpm=900", "axis.0=0.1", "level=7"}, nil},
	{"reading.cbor", nil, map[string]int{"temperature=21.5": 3}},
	{"pack=", nil, map[string]int{
		`"urn:dev:ow:10e2073a01080063:speed"`: 4, `"unit":"m/s"`: 4, `"doubleValue":10`: 4, `"2025-10-09T08:53:20Z"`: 4,
		`"urn:dev:ow:10e2073a01080063:power.sum"`: 4, `"unit":"J"`: 4, `"2025-10-09T08:53:15Z"`: 8,
		`"application/senml+json"`: 4, `"application/senml+cbor"`: 1, `"unit":"Cel"`: 1,
	}},
	{"ce-specversion", nil, map[string]int{
		`"key":"e-1"`: 3, `"ce-source":"/sensors/7"`: 3, `"ce-type":"com.example.reading"`: 3, `"createdAt":"2026-05-04T03:02:01Z"`: 3, `"doubleValue":21.5`: 3,
		`"event1"`: 1, `"event2"`: 1, `"event3"`: 1, `"application/json"`: 3,
	}},
	{"event=", nil, map[string]int{
		`"key":"e-2"`: 5, `"ce-source":"/sensors/7"`: 5, `"createdAt":"2026-05-04T03:02:01Z"`: 5, `"doubleValue":21.5`: 5, `"application/cloudevents+json"`: 5,
	}},
	{"bad1", []string{"not well-formed CBOR", "must be understood and is not: new_", `"status":400`}, nil},
}

// TestFormats runs the lines of docs/formats.md, on all protocols, as a reader
// types them.
func TestFormats(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	blocks := shellBlocks(t, "../../docs/formats.md", "## Try it")
	if len(blocks) != len(formats) {
		t.Fatalf("docs/formats.md has %d shell blocks, want %d", len(blocks), len(formats))
	}
	for i, step := range formats {
		if !strings.Contains(blocks[i], step.about) {
			t.Fatalf("block %d is %q, want the one with %q", i, blocks[i], step.about)
		}
		printed := r.run(blocks[i])
		if missing := lacks(printed, step.shows); len(missing) > 0 {
			t.Fatalf("%s\nprinted no %q:\n%s", blocks[i], missing, printed)
		}
		for text, times := range step.count {
			if n := strings.Count(strings.ReplaceAll(printed, ": ", ":"), text); n != times {
				t.Errorf("%s\nprinted %q %d times, want %d:\n%s", blocks[i], text, n, times, printed)
			}
		}
	}
}
