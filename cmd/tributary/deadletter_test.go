package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/eclipse/paho.golang/packets"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/pipeline"
)

// letterRow is a dead letter as `deadletter list -o json` prints it.
type letterRow struct {
	Name, Device, Code, Reason, Protocol, Address, Length string
	Replayable                                            bool
	Raw                                                   []byte
}

func (s *server) letters(args ...string) []letterRow {
	s.t.Helper()
	return parseLines[letterRow](s.t, s.client(append([]string{"deadletter", "list", "-o", "json", "--limit", "10000"}, args...)...))
}

// TestDeadLetters: what each door refuses can be seen, shown, tried again and
// removed.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "--open")
	const broken = `{"temperature":21.5`
	c := dialMQTT5(t, s, "mqtt1")
	publish := &packets.Publish{Topic: "mqtt1/telemetry/room", QoS: 1, PacketID: 1, Payload: []byte(broken),
		Properties: &packets.Properties{ContentType: "application/json"}}
	if _, err := publish.WriteTo(c); err != nil {
		t.Fatal(err)
	}
	conn, err := amqp.Dial(t.Context(), "amqp://"+s.addresses["amqp"], &amqp.ConnOptions{ContainerID: "amqp1", SASLType: amqp.SASLTypeAnonymous()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	session, err := conn.NewSession(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	link, err := session.NewSender(t.Context(), "amqp1/telemetry/room", nil)
	if err != nil {
		t.Fatal(err)
	}
	declared := "application/json"
	if err := link.Send(t.Context(), &amqp.Message{Data: [][]byte{[]byte(broken)}, Properties: &amqp.MessageProperties{ContentType: &declared}}, nil); err == nil {
		t.Fatal("AMQP accepted what is not JSON")
	}
	response, err := http.Post("http://"+s.addresses["http"]+"/v1/devices/http1/telemetry/room", "application/json", strings.NewReader(broken))
	if err != nil {
		t.Fatal(err)
	}
	if io.Copy(io.Discard, response.Body); response.StatusCode != http.StatusBadRequest {
		t.Fatal(response.Status)
	}
	response.Body.Close()
	eventually(t, "three letters", func() bool { return len(s.letters()) == 3 })
	for protocol, name := range map[string]string{"mqtt": "mqtt1", "amqp": "amqp1", "http": "http1"} {
		got := s.letters("--device", name, "--reason", "undecodable", "--since", "1h")
		if len(got) != 1 || got[0].Protocol != protocol || got[0].Code != "undecodable" || !got[0].Replayable || got[0].Length != fmt.Sprint(len(broken)) || got[0].Raw != nil {
			t.Errorf("%s: %+v", protocol, got)
			continue
		}
		shown := parseLines[letterRow](t, s.client("deadletter", "show", got[0].Name, "-o", "json"))
		if string(shown[0].Raw) != broken || shown[0].Reason == "" || !strings.Contains(shown[0].Address, "telemetry/room") {
			t.Errorf("%s: %+v", protocol, shown)
		}
		if out := s.client("deadletter", "show", got[0].Name); !strings.Contains(out, broken) || !strings.Contains(out, name) {
			t.Errorf("the table is\n%s", out)
		}
		if out, err := s.tryClient("deadletter", "replay", got[0].Name); err == nil || !strings.Contains(out, "JSON") {
			t.Errorf("replaying what still is no JSON: %v, %s", err, out)
		}
	}
	if got := s.rest("/v1/tenants/default/deadLetters?codes=undecodable&page_size=2"); strings.Count(got, `"name"`) != 2 || !strings.Contains(got, "nextPageToken") {
		t.Errorf("REST lists %s", got)
	}
	if got := s.letters("--reason", "too-large"); len(got) != 0 {
		t.Errorf("%d letters of another kind", len(got))
	}
	if out := s.client("deadletter", "replay", "--all"); strings.Count(out, "stays") != 3 {
		t.Errorf("replaying all printed\n%s", out)
	}
	s.client("deadletter", "purge", "--device", "mqtt1")
	if got := s.letters(); len(got) != 3 {
		t.Errorf("%d letters are left after a purge that only counts", len(got))
	}
	s.client("deadletter", "purge", "--device", "mqtt1", "--force")
	if got := s.letters(); len(got) != 2 {
		t.Errorf("%d letters are left of 3", len(got))
	}
	s.client("deadletter", "purge", "--force")
	if out := s.client("deadletter", "list"); out != "" {
		t.Errorf("after a purge of all:\n%s", out)
	}
}

// TestReplayOfABacklog: letters that an older release could not read are replayed
// by one that can, while the server is killed again and again: each message is
// stored once.
func TestReplayOfABacklog(t *testing.T) {
	t.Parallel()
	url, data := startNATS(t, true), t.TempDir()
	flags := []string{"--open", "--nats", url, "--store", "sqlite:" + data + "/rows.db"}
	const n = 3000
	left := buryBacklog(t, url, n)
	for kills := 0; ; kills++ {
		s := serve(t, data, flags...)
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		replay := program(ctx, "deadletter", "replay", "--all", "--data", data)
		var said bytes.Buffer
		replay.Stderr = &said
		if err := replay.Start(); err != nil {
			t.Fatal(err)
		}
		if kills < 5 { // each time after some hundred more
			enough := left() - 50 - rand.IntN(300)
			eventually(t, "some replays", func() bool { return left() <= enough })
			s.kill()
			if replay.Wait() == nil {
				t.Fatalf("the replay outlived the server:\n%s", said.String())
			}
			cancel()
			continue
		}
		if err := replay.Wait(); err != nil {
			t.Fatalf("%v:\n%s", err, said.String())
		}
		cancel()
		if n := left(); n != 0 {
			t.Fatalf("%d letters are left", n)
		}
		checkBacklog(t, s, n)
		return
	}
}

// buryBacklog leaves what an older release would have: every second message has
// a key, and payloads repeat. It answers what counts those that are left.
func buryBacklog(t *testing.T, url string, n int) (left func() int) {
	t.Helper()
	belt, err := pipeline.Open(t.Context(), pipeline.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := belt.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	left = func() int {
		stats, err := belt.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return int(stats[len(stats)-1].Messages)
	}
	for i := range n {
		m := &device.Message{Tenant: "default", Device: fmt.Sprint("dev", i%3), Channel: "room", Protocol: device.MQTT, QoS: 1,
			ContentType: "application/json", ReceivedAt: time.Now(), Payload: fmt.Appendf(nil, `{"n":%d}`, i/6)}
		if i%2 == 0 {
			m.Key = fmt.Sprint("key ", i)
		}
		belt.Refused(adapters.Refusal{Device: m.ID(), Protocol: m.Protocol, Address: m.Device + "/telemetry/room", ContentType: m.ContentType,
			Raw: m.Payload, Err: device.Errorf(device.Undecodable, "no decoder for this"), Message: m})
		if i%500 == 499 { // more than its queue holds would be dropped
			eventually(t, "the letters", func() bool { return left() == i+1 })
		}
	}
	return left
}

func checkBacklog(t *testing.T, s *server, n int) {
	t.Helper()
	total, keys := 0, map[string]bool{}
	for d := range 3 {
		for _, row := range s.query(fmt.Sprint("dev", d)) {
			total++
			if row.Key == "" || keys[row.Device+" "+row.Key] {
				t.Errorf("%s has %s twice, or without a key: %q", row.Device, row.Payload, row.Key)
			}
			keys[row.Device+" "+row.Key] = true
			if len(row.Measurements) != 1 || row.Measurements[0].Name != "n" {
				t.Fatalf("%s was stored without its measurements", row.Payload)
			}
		}
	}
	if total != n {
		t.Errorf("%d messages are stored, want %d", total, n)
	}
	t.Logf("%d messages stored once, %v repetitions dropped since the last start", total, s.metric("tributary_store_repeated_messages_total"))
}
