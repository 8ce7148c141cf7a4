package normalize_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/normalize"
)

// decoded holds a payload to the package's invariants and answers its message,
// nil when it was refused.
func decoded(t *testing.T, contentType string, payload []byte) *device.Message {
	t.Helper()
	m := message(contentType, string(payload))
	err := normalize.Message(m)
	if !bytes.Equal(m.Payload, payload) || m.ContentType != contentType {
		t.Fatal("payload or type altered")
	}
	bounded(t, m)
	if err == nil {
		return m
	}
	if code := device.CodeOf(err); code != device.Undecodable && code != device.Invalid {
		t.Fatalf("unexpected refusal: %v", err)
	}
	if m.Measurements != nil || m.Key != "" || m.Properties != nil || !m.CreatedAt.IsZero() {
		t.Fatalf("refused, and yet changed: %+v", m)
	}
	return nil
}

// FuzzCBOR holds our reading of CBOR to the library's.
func FuzzCBOR(f *testing.F) {
	for _, seed := range []string{
		"\x18\x18", "\xa2\x61a\x01\x61b\xf9\x3e\x00", "\x9f\x82\x01\x7f\x61a\xff\xff", "\xc4\x82\x21\x19\x6a\xb3", "\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00",
		"\xd9\xd9\xf7\xa3\x64name\x61t\x65value\x01\x64unit\x61V", "\xbf\x01\xf7\x40\x02\xff", "\xc1\xfb\x41\xd4\x52\xd9\xec\x20\x00\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		m := decoded(t, "application/cbor", payload)
		if m == nil {
			return
		}
		var want any
		if err := cbor.Wellformed(payload); err != nil {
			t.Fatalf("taken, and yet not well-formed: %v", err)
		}
		if cbor.Unmarshal(payload, &want) != nil || len(m.Measurements) != 1 || m.Measurements[0].Name != "value" {
			return
		}
		got := m.Measurements[0].Value
		switch want := want.(type) {
		case float64:
			if math.Float64bits(got.Double()) != math.Float64bits(want) {
				t.Fatalf("%v, want %v", got, want)
			}
		case uint64:
			if n, ok := got.Number(); !ok || n != float64(want) {
				t.Fatalf("%v, want %v", got, want)
			}
		case int64:
			if got != device.Int(want) {
				t.Fatalf("%v, want %v", got, want)
			}
		case string:
			if got != device.String(want) {
				t.Fatalf("%v, want %q", got, want)
			}
		case bool:
			if got != device.Bool(want) {
				t.Fatalf("%v, want %v", got, want)
			}
		}
	})
}

// FuzzSenML writes what it read as resolved records (RFC 8428, section 4.6) and
// wants to read the same again.
func FuzzSenML(f *testing.F) {
	for _, seed := range []string{
		`[{"bn":"urn:dev:ow:1:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},{"n":"current","t":-5,"v":1.2}]`,
		`[{"bn":"x","bv":1,"bs":2},{"n":"y","vs":"s"},{"n":"z","vb":true},{"n":"d","vd":"aGkgCg"},{"n":"s","u":"kW","s":3}]`,
		`[{"bver":26,"n":"r","u":"dBm","v":-3,"s":1,"ut":5,"x":[{}]}]`, `[{"n":"a_","b_":1}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		m := decoded(t, "application/senml+json", payload)
		if m == nil {
			return
		}
		var records []map[string]any
		for _, x := range m.Measurements {
			if x.Time.Unix() < 1<<28 {
				return // no absolute time says this
			}
			records = append(records, resolvedRecord(x))
		}
		if len(records) == 0 {
			return
		}
		text, err := json.Marshal(records)
		if err != nil {
			t.Fatal(err)
		}
		again := decoded(t, "application/senml+json", text)
		if again == nil || show(again) != show(m) {
			t.Fatalf("%s\nreads %s\nresolved as %s\nreads %+v", payload, show(m), text, again)
		}
	})
}

func resolvedRecord(x device.Measurement) map[string]any {
	seconds := strconv.FormatInt(x.Time.Unix(), 10) + "." + strings.TrimPrefix(strconv.Itoa(1e6+x.Time.Nanosecond()/1000), "1")
	r := map[string]any{"n": x.Name, "u": x.Unit, "t": json.Number(seconds)}
	switch x.Value.Kind() {
	case device.KindDouble:
		r["v"] = x.Value.Double()
	case device.KindString:
		r["vs"] = x.Value.Text()
	case device.KindBool:
		r["vb"] = x.Value.Bool()
	case device.KindBytes:
		r["vd"] = base64.RawURLEncoding.EncodeToString([]byte(x.Value.Text()))
	}
	return r
}

// FuzzSenMLCBOR holds packs in CBOR to the invariants of the package.
func FuzzSenMLCBOR(f *testing.F) {
	for _, seed := range []string{
		"\x81\xa2\x00\x61x\x02\x01", "\x9f\xbf\x21\x61x\x22\x01\x23\x61V\xff\xa1\x04\xf5\xa1\x08\x41a\xff", "\x81\xa3\x00\x61x\x02\xc4\x82\x21\x19\x6a\xb3\x61_\x01",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if m := decoded(t, "application/senml+cbor", payload); m != nil {
			for _, x := range m.Measurements {
				if x.Value.Kind() == device.KindInt {
					t.Fatalf("%s is an integer, SenML has none", x.Name)
				}
			}
		}
	})
}

// FuzzCloudEvent reads a payload as one event and as a batch of it.
func FuzzCloudEvent(f *testing.F) {
	for _, seed := range []string{binaryData, objectData, stringData, envelope(`,"data":[1]`), envelope(`,"datacontenttype":"application/senml+json","data":[{"n":"x","v":1}]`)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		m := decoded(t, "application/cloudevents+json", payload)
		events, err := normalize.Batch(message("application/cloudevents-batch+json", "["+string(payload)+"]"))
		if m == nil {
			return
		}
		if m.Validate() != nil || m.Key == "" || m.Properties["ce-specversion"] != "1.0" || m.Properties["ce-source"] == "" {
			t.Fatalf("no event: %+v", m)
		}
		if m.Tenant != "t" || m.Device != "d" || m.Channel != "" {
			t.Fatal("an event changed whose message it is")
		}
		if err != nil || len(events) != 1 || event(events[0]) != event(m) || !bytes.Equal(events[0].Payload, bytes.Trim(payload, " \t\r\n")) {
			t.Fatalf("in a batch: %v", err)
		}
	})
}

// FuzzBatch holds batches of any bytes to the invariants of the package.
func FuzzBatch(f *testing.F) {
	for _, seed := range []string{"[]", "[" + envelope("") + "," + objectData + "]", " [ " + binaryData + " ] "} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		events, err := normalize.Batch(message("application/cloudevents-batch+json", string(payload)))
		if err != nil && events != nil || len(events) > normalize.MaxBatch {
			t.Fatalf("%d events and %v", len(events), err)
		}
		for _, m := range events {
			bounded(t, m)
			if !bytes.Contains(payload, m.Payload) || m.Key == "" || m.Validate() != nil {
				t.Fatalf("%+v", m)
			}
		}
	})
}

// FuzzAttributes holds what adapters find beside a payload to the invariants.
func FuzzAttributes(f *testing.F) {
	f.Add("id", "1", "time", "2018-04-05T03:56:24Z")
	f.Add("specversion", "0.3", "subject", "é")
	f.Add("a-b", "", "datacontenttype", "text/plain")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		attributes := map[string]string{"specversion": "1.0", "id": "i", "source": "s", "type": "t"}
		attributes[name1] = value1
		attributes[name2] = value2
		m := message("", "1")
		if err := normalize.CloudEvent(m, attributes); err != nil {
			if m.Key != "" || m.Properties != nil {
				t.Fatalf("refused, and yet changed: %+v", m)
			}
			return
		}
		if m.Validate() != nil || m.Key != attributes["id"] || m.Properties["ce-type"] != attributes["type"] || normalize.Message(m) != nil {
			t.Fatalf("%+v", m)
		}
	})
}
