package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/eclipse/paho.golang/packets"
)

// keyedSender sends with a key and returns when the server has acknowledged.
type keyedSender func(t *testing.T, s *server, device, key, payload string)

func keyedMQTT(t *testing.T, s *server, device, key, payload string) {
	t.Helper()
	c := dialMQTT5(t, s, device)
	defer c.Close()
	publish := &packets.Publish{Topic: device + "/telemetry/room", QoS: 1, PacketID: 1, Payload: []byte(payload), Properties: &packets.Properties{}}
	if key != "" {
		publish.Properties.User = []packets.User{{Key: "message-id", Value: key}}
	}
	if _, err := publish.WriteTo(c); err != nil {
		t.Fatal(err)
	}
	for p := range c.in {
		if ack, ok := p.Content.(*packets.Puback); ok {
			if ack.ReasonCode >= 0x80 {
				t.Fatalf("PUBACK with %#x", ack.ReasonCode)
			}
			return
		}
	}
	t.Fatal("the connection ended without a PUBACK")
}

func keyedAMQP(t *testing.T, s *server, device, key, payload string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := amqp.Dial(ctx, "amqp://"+s.addresses["amqp"], &amqp.ConnOptions{ContainerID: device, SASLType: amqp.SASLTypeAnonymous()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	link, err := session.NewSender(ctx, device+"/telemetry/room", nil)
	if err != nil {
		t.Fatal(err)
	}
	m := amqp.NewMessage([]byte(payload))
	if key != "" {
		m.Properties = &amqp.MessageProperties{MessageID: key}
	}
	if err := link.Send(ctx, m, nil); err != nil {
		t.Fatal(err)
	}
}

func keyedHTTP(t *testing.T, s *server, device, key, payload string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		"http://"+s.addresses["http"]+"/v1/devices/"+device+"/telemetry/room", bytes.NewReader([]byte(payload)))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", `"`+key+`"`)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode >= 300 {
		t.Fatal(response.Status)
	}
}

// TestRepeatingDevice: devices that did not hear the acknowledgement say the
// same again: at once, on a new connection, and after the server was killed.
func TestRepeatingDevice(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := serve(t, data, "--open")
	senders := map[string]keyedSender{"mqtt": keyedMQTT, "amqp": keyedAMQP, "http": keyedHTTP}
	const n = 5
	for round := range 3 {
		for device, send := range senders {
			for i := range n {
				send(t, s, device, fmt.Sprint("m-", i), fmt.Sprintf(`{"n":%d}`, i))
				send(t, s, device, fmt.Sprint("m-", i), fmt.Sprintf(`{"n":%d}`, i))
			}
			send(t, s, device, "", `{"n":-1}`)                               // without a key each counts
			send(t, s, device, "m-0", fmt.Sprintf(`{"n":%d}`, 1+1000*round)) // another payload too
		}
		if round < 2 {
			s.kill()
			s = serve(t, data, "--open")
		}
	}
	// One device's message that comes through another door is the same message.
	keyedHTTP(t, s, "mqtt", "m-3", `{"n":3}`)
	for device := range senders {
		seen := map[string]int{}
		for _, row := range s.query(device) {
			seen[row.Key+" "+string(row.Payload)]++
		}
		want := map[string]int{` {"n":-1}`: 3, `m-0 {"n":1}`: 1, `m-0 {"n":1001}`: 1, `m-0 {"n":2001}`: 1}
		for i := range n {
			want[fmt.Sprintf(`m-%d {"n":%d}`, i, i)] = 1
		}
		if fmt.Sprint(seen) != fmt.Sprint(want) {
			t.Errorf("%s: stored %v, want %v", device, seen, want)
		}
	}
	if repeated, reused := s.metric("tributary_store_repeated_messages_total"), s.metric("tributary_store_reused_keys_total"); repeated == 0 || reused < 3 {
		t.Errorf("%v repetitions and %v reused keys are counted since the last start, want some and 3 or more", repeated, reused)
	}
}

// TestShortDedupWindow: the window is an option, and ends.
func TestShortDedupWindow(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "--open", "--dedup-window", "1ms")
	for i := range 3 {
		keyedHTTP(t, s, "dev1", "k", `{"n":1}`)
		if got := len(s.query("dev1")); got != i+1 {
			t.Fatalf("%d messages are stored, want %d", got, i+1)
		}
		until := time.Now().Add(2 * time.Millisecond)
		eventually(t, "the end of the window", func() bool { return time.Now().After(until) })
	}
}
