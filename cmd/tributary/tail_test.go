package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/pipeline"
)

// TestTailFromThePast: `tail --from` of all devices, from a position that was
// purged from the stream, shows every message once and in order, while more come. So do
// receivers over AMQP.
func TestTailFromThePast(t *testing.T) {
	t.Parallel()
	url, data := startNATS(t, true), t.TempDir()
	s := serve(t, data, "--open", "--nats", url, "--store", "sqlite:"+data+"/rows.db")
	const devices, before, after = 3, 150, 60
	var sends []func([]byte) error
	for i := range devices {
		send, closeIt, err := sendMQTT(t.Context(), s, fmt.Sprint("dev", i))
		if err != nil {
			t.Fatal(err)
		}
		defer closeIt()
		sends = append(sends, send)
	}
	send := func(n int) {
		t.Helper()
		if err := sends[n%devices](fmt.Appendf(nil, `{"n":%d}`, n)); err != nil {
			t.Fatal(err)
		}
	}
	session := s.amqpSession("", "") // AMQP's receivers read the same way
	from := func(value any) *amqp.Receiver {
		return receiveFrom(t, session, "telemetry", &amqp.ReceiverOptions{Credit: 20, Filters: []amqp.LinkFilter{amqp.NewLinkFilter("tributary:from", 0, value)}})
	}
	slow := from("now") // it takes the first 20, and the rest when the stream has lost them
	for n := range before {
		send(n)
	}
	type line struct {
		Position     string
		Measurements []struct{ IntValue, DoubleValue json.Number }
	}
	first := parseLines[line](t, s.client("query", "--device", "dev0", "-o", "json"))[0] // waits for the store
	purgeTelemetry(t, url, before-10)

	tail := program(t.Context(), "tail", "--data", data, "--from", first.Position, "-o", "json")
	out, err := tail.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tail.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { tail.Process.Kill(); tail.Wait() }()
	for n := before; n < before+after; n++ {
		send(n)
	}
	var got, want []string
	for lines := bufio.NewScanner(out); len(got) < before+after-1 && lines.Scan(); {
		l := parseLines[line](t, lines.Text())[0]
		got = append(got, string(l.Measurements[0].IntValue+l.Measurements[0].DoubleValue))
	}
	for n := range before + after {
		want = append(want, fmt.Sprint(n))
	}
	for name, r := range map[string]*amqp.Receiver{"a slow receiver": slow, "one from a position": from(first.Position), "one from a time": from(time.Unix(0, 0))} {
		all := want
		if name == "one from a position" {
			all = want[1:]
		}
		for _, n := range all {
			taken(t, r, `{"n":`+n+`}`)
		}
	}
	want = want[1:]
	if !slices.Equal(got, want) {
		t.Errorf("tail shows %d messages, want %d: %v", len(got), len(want), got)
	}
	s.stop()
}

// purgeTelemetry removes what the stream holds before a sequence, as it does
// itself once it holds more than --stream-keep-bytes.
func purgeTelemetry(t *testing.T, url string, before uint64) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), pipeline.TelemetryStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(before)); err != nil {
		t.Fatal(err)
	}
}
