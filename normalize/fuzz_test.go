package normalize_test

import (
	"bytes"
	"math"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/normalize"
)

// FuzzMessage holds any payload to the invariants of the package, and its idea
// of valid JSON to that of another parser.
func FuzzMessage(f *testing.F) {
	for _, payload := range []string{
		`{"temperature":21.5,"ts":1700000000}`, `[{"a":{"b":[1,2]}},{"name":"x","value":1,"unit":"V"}]`,
		`"\ud83d\ude00\n"`, `-0.1e-7`, `{"a.b\\":null}`, `12345678901234567890`, `{"":[[[]]]}`, "\xff", ``, `on`,
	} {
		f.Add("", []byte(payload))
		f.Add("application/json", []byte(payload))
		f.Add("text/plain; charset=utf-8", []byte(payload))
	}
	f.Fuzz(func(t *testing.T, contentType string, payload []byte) {
		m := *message(contentType, string(payload))
		err := normalize.Message(&m)
		if !bytes.Equal(m.Payload, payload) {
			t.Fatal("payload altered")
		}
		if err != nil {
			if code := device.CodeOf(err); code != device.Undecodable && code != device.Invalid || contentType == "" {
				t.Fatalf("unexpected refusal of %q: %v", contentType, err)
			}
		}
		bounded(t, &m)
		again := *message(contentType, string(payload))
		if err2 := normalize.Message(&again); (err == nil) != (err2 == nil) || !reflect.DeepEqual(m.Measurements, again.Measurements) {
			t.Fatal("the same bytes gave another answer")
		}
		sameJSON(t, payload)
	})
}

func bounded(t *testing.T, m *device.Message) {
	t.Helper()
	if m.ContentType == "" && len(m.Measurements) > 0 {
		t.Fatal("measurements of no content type")
	}
	if len(m.Measurements) > normalize.MaxMeasurements {
		t.Fatalf("%d measurements", len(m.Measurements))
	}
	for _, x := range m.Measurements {
		switch {
		case x.Name == "" || len(x.Name) > normalize.MaxNameBytes || !utf8.ValidString(x.Name):
			t.Fatalf("bad name %q", x.Name)
		case x.Value.Kind() == device.KindNone || len(x.Value.Text()) > normalize.MaxStringBytes,
			x.Value.Kind() == device.KindString && !utf8.ValidString(x.Value.Text()):
			t.Fatalf("bad value %v of %s", x.Value, x.Name)
		case x.Time.IsZero():
			t.Fatalf("%s has no time", x.Name)
		case x.Value.Kind() == device.KindDouble && (math.IsNaN(x.Value.Double()) || math.IsInf(x.Value.Double(), 0)):
			t.Fatalf("%s is no number", x.Name)
		}
	}
}

func sameJSON(t *testing.T, payload []byte) {
	t.Helper()
	m := device.Message{ContentType: "application/json", Payload: payload, ReceivedAt: received}
	err := normalize.Message(&m)
	valid := jsontext.Value(payload).IsValid(jsontext.AllowDuplicateNames(true))
	if err == nil && !valid || device.CodeOf(err) == device.Undecodable && valid {
		t.Fatalf("%q: valid is %v, but %v", payload, valid, err)
	}
}
