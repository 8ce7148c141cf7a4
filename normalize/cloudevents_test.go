package normalize_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/normalize"
)

// event is message with what an event adds: key, time and properties.
func event(m *device.Message) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m.Properties)) {
		parts = append(parts, k+"="+m.Properties[k])
	}
	created := "never"
	if !m.CreatedAt.IsZero() {
		created = m.CreatedAt.Format("2006-01-02T15:04:05Z07:00")
	}
	return fmt.Sprintf("%s at %s %v: %s", m.Key, created, parts, show(m))
}

// The examples of the JSON event format 1.0.2, section 3.2, with their white
// space; the elided data is filled in.
const (
	binaryData = `{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "id" : "A234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "datacontenttype" : "application/vnd.apache.thrift.binary",
    "data_base64" : "gAEAAQ=="
}`
	xmlData = `{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "id" : "B234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "unsetextension": null,
    "datacontenttype" : "application/xml",
    "data" : "<much wow=\"xml\"/>"
}`
	objectData = `{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "subject": null,
    "id" : "C234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "datacontenttype" : "application/json",
    "data" : {
        "appinfoA" : "abc",
        "appinfoB" : 123,
        "appinfoC" : true
    }
}`
	stringData = `{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "subject": null,
    "id" : "D234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "data" : "I'm just a string"
}`
	properties = "[ce-comexampleextension1=value ce-comexampleothervalue=5 ce-source=/mycontext ce-specversion=1.0 ce-type=com.example.someevent]"
	at2018     = "@2018-04-05T17:31:00Z"
)

func TestCloudEventExamples(t *testing.T) {
	f := func(payload, want string) {
		t.Helper()
		for _, declared := range []string{"application/cloudevents+json; charset=utf-8", ""} {
			m := message(declared, payload)
			m.Key, m.CreatedAt = "the door's", received
			if err := normalize.Message(m); err != nil || event(m) != want || string(m.Payload) != payload {
				t.Errorf("declared %q: %v\n got %s\nwant %s", declared, err, event(m), want)
			}
			if declared == "" && m.ContentType != "application/cloudevents+json" {
				t.Errorf("sniffed %s", m.ContentType)
			}
		}
	}
	f(binaryData, "A234-1234-1234 at 2018-04-05T17:31:00Z "+properties+": ")
	f(xmlData, "B234-1234-1234 at 2018-04-05T17:31:00Z "+properties+": ")
	f(objectData, "C234-1234-1234 at 2018-04-05T17:31:00Z "+properties+": appinfoA=string:abc"+at2018+" appinfoB=int:123"+at2018+" appinfoC=bool:true"+at2018)
	f(stringData, "D234-1234-1234 at 2018-04-05T17:31:00Z "+properties+": value=string:I'm just a string"+at2018)
}

// envelope is an event around members of its own.
func envelope(members string) string {
	return `{"specversion":"1.0","id":"1","source":"/s","type":"t"` + members + `}`
}

func TestCloudEventData(t *testing.T) {
	f := func(members, want string) {
		t.Helper()
		m := message("application/cloudevents+json", envelope(members))
		if err := normalize.Message(m); err != nil || show(m) != want {
			t.Errorf("%s: %v\n got %s\nwant %s", members, err, show(m), want)
		}
	}
	f(``, ``)
	f(`,"data":null`, ``)
	f(`,"data_base64":null`, ``)
	f(`,"data":[1,{"a":2}]`, `value.0=int:1 a=int:2`)
	f(`,"data":{"t":1,"ts":1700000000}`, `t=int:1@2023-11-14T22:13:20Z`)
	f(`,"data":"21.5","datacontenttype":"text/plain"`, `value=double:21.5`)
	f(`,"datacontenttype":"text/plain; charset=utf-8","data_base64":"MjEuNQ=="`, `value=double:21.5`)
	f(`,"datacontenttype":"application/cbor","data_base64":"oWF0AQ=="`, `t=int:1`)
	f(`,"datacontenttype":"application/senml+json","data":[{"n":"x","u":"km/h","v":36}]`, `x[m/s]=double:10`)
	f(`,"datacontenttype":"application/senml+cbor","data_base64":"gaIAYXgCAQ=="`, `x=double:1`)
	f(`,"datacontenttype":"application/json","data_base64":"eyJ0IjoxfQ=="`, `t=int:1`)
	f(`,"datacontenttype":"application/cloudevents+json","data":`+envelope(""), ``) // one inside another stays closed
}

func TestCloudEventRefusals(t *testing.T) {
	f := func(payload string, code device.Code, sentence string) {
		t.Helper()
		m := message("application/cloudevents+json", payload)
		err := normalize.Message(m)
		if device.CodeOf(err) != code || !strings.Contains(device.PublicMessage(err), sentence) || m.Key != "" || m.Properties != nil {
			t.Errorf("%.80s: got %v (%v), want %v with %q", payload, err, device.CodeOf(err), code, sentence)
		}
	}
	for payload, sentence := range map[string]string{
		``:                 "must be a JSON object",
		`[]`:               "must be a JSON object",
		`{`:                "not valid JSON at byte 1",
		envelope("") + "x": "not valid JSON at byte 55",
		"{\"\xff\"":        "not valid UTF-8",
		`{"specversion":"1.0","id":"1","source":"/s"}`:            "attribute type is missing",
		`{"specversion":"1.0","id":"","source":"/s","type":"t"}`:  "attribute id is missing",
		`{"specversion":"0.3","id":"1","source":"/s","type":"t"}`: "only 1.0 is understood",
		envelope(`,"id":"2"`):                                                  "attribute id is there twice",
		envelope(`,"Upper":"x"`):                                               `"Upper" is no attribute name`,
		envelope(`,"a":{}`):                                                    "attribute a must be a string",
		envelope(`,"a":1.5`):                                                   "but no integer",
		envelope(`,"a":"\u0001"`):                                              "control characters",
		envelope(`,"time":"yesterday"`):                                        "time must be",
		envelope(`,"time":"0001-01-01T00:00:00Z"`):                             "time must be",
		envelope(`,"data":1,"data_base64":"AA=="`):                             "data more than once",
		envelope(`,"data_base64":1`):                                           "data_base64 must be text",
		envelope(`,"data_base64":"~"`):                                         "not base64",
		envelope(`,"data":{},"datacontenttype":"text/plain"`):                  "data must be text",
		envelope(`,"data":{},"datacontenttype":"application/senml+json"`):      "in the data of the CloudEvent: payload is not SenML",
		envelope(`,"data_base64":"/w==","datacontenttype":"application/cbor"`): "in the data of the CloudEvent: payload is not well-formed CBOR",
	} {
		f(payload, device.Undecodable, sentence)
	}
	f(strings.Replace(envelope(""), `"1"`, `"`+strings.Repeat("i", device.MaxKeyBytes+1)+`"`, 1), device.Invalid, "key is 257 bytes")
	f(envelope(`,"data":`+strings.Repeat("[", 20)), device.Invalid, "nests deeper")
	many := ""
	for i := range 70 {
		many += fmt.Sprintf(`,"a%d":1`, i)
	}
	f(envelope(many), device.Invalid, "more than 64 attributes")
}

// TestCloudEventBinary is an event whose attributes came beside the payload, as
// in the HTTP binding 1.0.2, section 3.1.4.
func TestCloudEventBinary(t *testing.T) {
	attributes := map[string]string{
		"specversion": "1.0", "type": "com.example.someevent", "time": "2018-04-05T03:56:24Z", "id": "1234-1234-1234", "source": "/mycontext/subcontext",
	}
	m := message("application/json; charset=utf-8", `{"t":1}`)
	m.Properties = map[string]string{"own": "1"}
	if err := normalize.CloudEvent(m, attributes); err != nil {
		t.Fatal(err)
	}
	if err := normalize.Message(m); err != nil {
		t.Fatal(err)
	}
	want := "1234-1234-1234 at 2018-04-05T03:56:24Z [ce-source=/mycontext/subcontext ce-specversion=1.0 ce-type=com.example.someevent own=1]: t=int:1@2018-04-05T03:56:24Z"
	if event(m) != want || m.ContentType != "application/json; charset=utf-8" {
		t.Errorf("%s\n got %s\nwant %s", m.ContentType, event(m), want)
	}
	// No data, and a type that came as an attribute only.
	m = message("application/json", ``)
	if err := normalize.CloudEvent(m, attributes); err != nil || normalize.Message(m) != nil || len(m.Measurements) != 0 {
		t.Errorf("an event without data: %v, %s", err, event(m))
	}
	attributes["datacontenttype"] = "text/plain"
	m = message("", `7`)
	if err := normalize.CloudEvent(m, attributes); err != nil || normalize.Message(m) != nil || m.ContentType != "text/plain" || m.Measurements[0].Value != device.Int(7) {
		t.Errorf("datacontenttype: %v, %s, %s", err, m.ContentType, event(m))
	}
	attributes["a-b"] = "x"
	m = message("", `7`)
	if err := normalize.CloudEvent(m, attributes); device.CodeOf(err) != device.Undecodable || m.Key != "" {
		t.Errorf("a name that is none: %v", err)
	}
}

// TestCloudEventBatch takes the example of the JSON event format, section 4.3.
func TestCloudEventBatch(t *testing.T) {
	batch := func(payload string) ([]*device.Message, error) {
		m := message("application/cloudevents-batch+json", payload)
		m.Channel, m.Properties = "c", map[string]string{"own": "1"}
		if !normalize.IsBatch(m.ContentType) || !normalize.IsBatch("application/cloudevents-batch+json; charset=UTF-8") || normalize.IsBatch("application/json") {
			t.Error("IsBatch is wrong")
		}
		return normalize.Batch(m)
	}
	second := strings.Replace(objectData, "someevent", "someotherevent", 1)
	events, err := batch(" [ " + binaryData + " ,\n" + second + "]\n")
	if err != nil || len(events) != 2 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	for i, payload := range []string{binaryData, second} {
		if m := events[i]; string(m.Payload) != payload || m.ContentType != "application/cloudevents+json" || m.Channel != "c" || m.Properties["own"] != "1" || m.Device != "d" {
			t.Errorf("event %d: %+v", i, m)
		}
	}
	if events[0].Key != "A234-1234-1234" || len(events[0].Measurements) != 0 || events[1].Key != "C234-1234-1234" || len(events[1].Measurements) != 3 {
		t.Errorf("%s\n%s", event(events[0]), event(events[1]))
	}
	if events, err := batch("[]"); err != nil || len(events) != 0 {
		t.Errorf("an empty batch: %v, %v", events, err)
	}
	for payload, sentence := range map[string]string{
		`{}`: "must be a JSON array", ``: "must be a JSON array", `[`: "not valid JSON", `[] x`: "not valid JSON", "[\xff": "not valid UTF-8",
		`[` + envelope("") + `,{"specversion":"1.0"}]`: "event 2 of the batch: not a CloudEvent 1.0: the attribute id is missing",
		`[` + envelope("") + `,1]`:                     "event 2 of the batch",
		`[` + envelope("") + ` 1]`:                     "not valid JSON at byte",
	} {
		if events, err := batch(payload); device.CodeOf(err) != device.Undecodable || !strings.Contains(device.PublicMessage(err), sentence) || events != nil {
			t.Errorf("%s: %v, want %q", payload, err, sentence)
		}
	}
	many := "[" + strings.Repeat(envelope("")+",", normalize.MaxBatch) + envelope("") + "]"
	if _, err := batch(many); device.CodeOf(err) != device.Invalid || !strings.Contains(err.Error(), "more than 1000 events") {
		t.Errorf("a long batch: %v", err)
	}
	m := message("application/cloudevents-batch+json", "[]")
	if err := normalize.Message(m); device.CodeOf(err) != device.Undecodable || !strings.Contains(err.Error(), "over HTTP only") {
		t.Errorf("a batch as one message: %v", err)
	}
}
