package https_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/https"
	"github.com/tributary-iot/tributary/device"
)

// binaryEvent is the example of the CloudEvents HTTP binding 1.0.2, section 3.1.4.
func binaryEvent(more ...string) []string {
	return append([]string{
		"ce-specversion", "1.0", "ce-type", "com.example.someevent", "ce-time", "2018-04-05T03:56:24Z",
		"ce-id", "1234-1234-1234", "ce-source", "/mycontext/subcontext", "Content-Type", "application/json; charset=utf-8",
	}, more...)
}

const structured = `{"specversion":"1.0","type":"t","source":"/other-device","id":"e1","data":{"t":1}}`

func TestCloudEvents(t *testing.T) {
	h := open(t, https.Config{}, &adaptertest.Gate{})
	post := func(body string, headers ...string) device.Message {
		t.Helper()
		if r := h.do("POST", "/v1/devices/dev1/telemetry", body, headers...); r.status != 204 {
			t.Fatalf("%d %q", r.status, r.body)
		}
		stored := h.gate.Stored()
		return stored[len(stored)-1]
	}
	m := post(`{"t":1}`, binaryEvent("CE-Subject", "Euro%20%E2%82%AC%20%F0%9F%98%80", "ce-old", `"a \"b\" %41"`, "Idempotency-Key", "mine", "Date", "Mon, 04 May 2026 03:02:01 GMT")...)
	want := map[string]string{
		"ce-specversion": "1.0", "ce-type": "com.example.someevent", "ce-source": "/mycontext/subcontext", "ce-subject": "Euro € 😀", "ce-old": `a "b" A`,
	}
	if m.Key != "1234-1234-1234" || m.CreatedAt.Unix() != 1522900584 || !reflect.DeepEqual(m.Properties, want) || len(m.Measurements) != 1 || m.Device != "dev1" {
		t.Errorf("binary: %+v", m)
	}
	m = post(structured, "Content-Type", "application/cloudevents+json; charset=utf-8", "ce-specversion", "1.0", "ce-id", "a copy")
	if m.Key != "e1" || m.Properties["ce-source"] != "/other-device" || string(m.Payload) != structured || len(m.Measurements) != 1 || m.Device != "dev1" {
		t.Errorf("structured: %+v", m)
	}
	if m = post("1", "ce-id", "x"); m.Key != "" || m.Properties != nil {
		t.Errorf("no event: %+v", m)
	}
	refused := func(sentence, body string, headers ...string) {
		t.Helper()
		r := h.do("POST", "/v1/devices/dev1/telemetry", body, headers...)
		if r.status != 400 || !strings.Contains(r.body, sentence) || !strings.Contains(r.body, "undecodable") {
			t.Errorf("%d %q, want %q", r.status, r.body, sentence)
		}
	}
	refused("attribute id is missing", "1", "ce-specversion", "1.0")
	refused("only 1.0 is understood", "1", binaryEvent("ce-specversion", "2.0")...)
	refused("percent-encoded", "1", binaryEvent("ce-subject", "%zz")...)
	refused("not UTF-8", "1", binaryEvent("ce-subject", "%C0%A0")...)
	refused("no attribute name", "1", binaryEvent("ce-a-b", "x")...)
	refused("not valid JSON", "{", binaryEvent()...)
	refused("attribute source is missing", `{"specversion":"1.0","id":"1"}`, "Content-Type", "application/cloudevents+json")
}

func TestCloudEventBatch(t *testing.T) {
	gate := &adaptertest.Gate{}
	h := open(t, https.Config{}, gate)
	post := func(body string) reply {
		return h.do("POST", "/v1/devices/dev1/telemetry/c", body, "Content-Type", "application/cloudevents-batch+json; charset=UTF-8")
	}
	if r := post("[]"); r.status != 204 || len(gate.Stored()) != 0 {
		t.Errorf("an empty batch: %d, %d stored", r.status, len(gate.Stored()))
	}
	second := strings.Replace(structured, "e1", "e2", 1)
	if r := post("[" + structured + "," + second + "]"); r.status != 204 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	stored := gate.Stored()
	if len(stored) != 2 || stored[0].Key != "e1" || stored[1].Key != "e2" || string(stored[1].Payload) != second || stored[0].Channel != "c" {
		t.Errorf("%+v", stored)
	}
	if r := post("[" + structured + ",{}]"); r.status != 400 || !strings.Contains(r.body, "event 2 of the batch") || len(gate.Stored()) != 2 {
		t.Errorf("a bad batch: %d %s, %d stored", r.status, r.body, len(gate.Stored()))
	}
}

// TestCloudEventBatchIsAckedWhenAllIs answers 204 after the last commit only,
// and the failure of one event for all.
func TestCloudEventBatchIsAckedWhenAllIs(t *testing.T) {
	events := "[" + structured + "," + structured + "," + structured + "]"
	for _, c := range []struct {
		outcomes []error
		now      error // of the third Submit itself
		status   int
	}{
		{[]error{nil, nil, nil}, nil, 204},
		{[]error{nil, device.Errorf(device.Unavailable, "no"), nil}, nil, 503},
		{[]error{nil, nil}, device.Errorf(device.Busy, "full"), 503},
		{[]error{errors.New("x"), device.Errorf(device.Busy, "no"), nil}, nil, 500},
	} {
		gate, dones, submitted := &adaptertest.Gate{}, make(chan func(error), 3), 0
		gate.OnSubmit = func(_ *device.Message, done func(error)) error {
			if submitted++; submitted == 3 && c.now != nil {
				return c.now
			}
			dones <- done
			return nil
		}
		h := open(t, https.Config{}, gate)
		answered := make(chan reply, 1)
		go func() {
			r, err := h.try(t.Context(), "POST", "/v1/devices/d/telemetry", events, "Content-Type", "application/cloudevents-batch+json")
			if err != nil {
				t.Error(err)
			}
			answered <- r
		}()
		for i, err := range c.outcomes {
			done := <-dones
			if i == 2 {
				select {
				case r := <-answered:
					t.Errorf("answered %d before the last was stored", r.status)
				default:
				}
			}
			if c.now == nil {
				done(err)
			}
		}
		if r := <-answered; r.status != c.status {
			t.Errorf("%v, %v: %d, want %d", c.outcomes, c.now, r.status, c.status)
		}
	}
}
