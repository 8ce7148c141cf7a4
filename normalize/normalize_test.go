package normalize_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/normalize"
)

var received = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

func message(contentType, payload string) *device.Message {
	return &device.Message{Tenant: "t", Device: "d", ContentType: contentType, Payload: []byte(payload), ReceivedAt: received}
}

// show writes measurements on one line: name[unit]=kind:value, and @time where
// it is not the message's time of arrival.
func show(m *device.Message) string {
	var parts []string
	for _, x := range m.Measurements {
		s := x.Name
		if x.Unit != "" {
			s += "[" + x.Unit + "]"
		}
		s += fmt.Sprintf("=%s:%s", x.Value.Kind(), x.Value)
		if !x.Time.Equal(received) {
			s += "@" + x.Time.Format(time.RFC3339Nano)
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, " ")
}

func TestJSON(t *testing.T) {
	f := func(payload, want string) {
		t.Helper()
		m := message("application/json", payload)
		if err := normalize.Message(m); err != nil {
			t.Errorf("%s: %v", payload, err)
		} else if got := show(m); got != want {
			t.Errorf("%s:\n got %s\nwant %s", payload, got, want)
		}
	}
	// Scalars and kinds.
	f(`21.5`, `value=double:21.5`)
	f(` true `, `value=bool:true`)
	f(`"warm"`, `value=string:warm`)
	f(`null`, ``)
	f(`{"i":1,"d":1.0,"e":1e2,"n":-7,"z":-0,"t":true,"f":false,"s":"x","null":null}`,
		`i=int:1 d=double:1 e=double:100 n=int:-7 z=int:0 t=bool:true f=bool:false s=string:x`)
	f(`{"max":9223372036854775807,"min":-9223372036854775808,"over":9223372036854775808}`,
		`max=int:9223372036854775807 min=int:-9223372036854775808 over=double:9.223372036854776e+18`)
	f(`[0.1,123456789012345.6,1234567890.12345,0.30000000000000004,1e-400]`,
		`value.0=double:0.1 value.1=double:1.234567890123456e+14 value.2=double:1.23456789012345e+09 value.3=double:0.30000000000000004 value.4=double:0`)
	// Names.
	f(`{}`, ``)
	f(`[]`, ``)
	f(`{"motor":{"rpm":900,"temp":{"case":40}}}`, `motor.rpm=int:900 motor.temp.case=int:40`)
	f(`{"a.b":1,"c\\d":2,"":3,"e":{"":4}}`, `a\.b=int:1 c\\d=int:2 \e=int:3 e.\e=int:4`)
	f(`{"a":1,"a":2}`, `a=int:1 a=int:2`)
	// Strings.
	f(`{"s":"\u0074\u00e9\ud83d\ude00\n\"\\\/\b\f\r\t"}`, "s=string:té😀\n\"\\/\b\f\r\t")
	f(`{"short":"x","long":"`+strings.Repeat("y", normalize.MaxStringBytes+1)+`"}`, `short=string:x`)
	// Arrays.
	f(`{"axis":[1,2.5,"x",null,[7]]}`, `axis.0=int:1 axis.1=double:2.5 axis.2=string:x axis.4.0=int:7`)
	f(`{"before":1,"wave":[`+strings.Repeat("1,", normalize.MaxIndexed)+`1],"after":2}`, `before=int:1 after=int:2`)
	f(`{"grid":[[1,2],[`+strings.Repeat("1,", normalize.MaxIndexed)+`1]]}`, `grid.0.0=int:1 grid.0.1=int:2`)
	f(`[{"t":1},{"t":2,"h":3}]`, `t=int:1 t=int:2 h=int:3`)
	f(`{"readings":[{"t":1},{"t":2}]}`, `readings.t=int:1 readings.t=int:2`)
	// Records that name their value.
	f(`{"name":"temperature","value":21.5,"unit":"Cel"}`, `temperature[Cel]=double:21.5`)
	f(`{"m":[{"name":"a.b","value":1},{"unit":"V","value":2.5,"name":"u"}]}`, `m.a.b=int:1 m.u[V]=double:2.5`)
	f(`{"name":"x","value":null}`, ``)
	f(`{"name":"x","value":1,"more":2}`, `name=string:x value=int:1 more=int:2`)
	f(`{"name":"x","value":{"y":1}}`, `name=string:x value.y=int:1`)
	f(`{"name":"","value":1}`, `name=string: value=int:1`)
	f(`{"name":7,"value":1}`, `name=int:7 value=int:1`)
}

func TestTimes(t *testing.T) {
	const at = "@2023-11-14T22:13:20Z" // 1700000000
	f := func(payload, want string) {
		t.Helper()
		m := message("application/json", payload)
		if err := normalize.Message(m); err != nil {
			t.Errorf("%s: %v", payload, err)
		} else if got := show(m); got != want {
			t.Errorf("%s:\n got %s\nwant %s", payload, got, want)
		}
	}
	f(`{"ts":1700000000,"t":1}`, `t=int:1`+at)
	f(`{"t":1,"time":1700000000000}`, `t=int:1`+at)
	f(`{"t":1,"timestamp":1700000000000000}`, `t=int:1`+at)
	f(`{"t":1,"timestamp":1700000000000000001}`, `t=int:1@2023-11-14T22:13:20.000000001Z`)
	f(`{"t":1,"ts":1700000000.25}`, `t=int:1@2023-11-14T22:13:20.25Z`)
	f(`{"t":1,"ts":1.7e12}`, `t=int:1`+at)
	f(`{"t":1,"ts":"2023-11-15T00:13:20+02:00"}`, `t=int:1`+at)
	f(`{"ts":35,"time":"noon","timestamp":"1970-01-01T00:00:09Z"}`, `ts=int:35 time=string:noon timestamp=string:1970-01-01T00:00:09Z`)
	f(`{"ts":1700000000,"time":1700000001}`, `time=int:1700000001`+at)
	f(`{"TS":1700000000}`, `TS=int:1700000000`)
	f(`[{"t":1,"ts":1700000000},{"t":2}]`, `t=int:1`+at+` t=int:2`)
	f(`{"in":{"t":1},"own":{"t":2,"ts":"2024-01-01T00:00:00Z"},"ts":1700000000}`, `in.t=int:1`+at+` own.t=int:2@2024-01-01T00:00:00Z`)
	f(`{"name":"t","value":1,"ts":1700000000}`, `t=int:1`+at)
}

func TestCreatedAt(t *testing.T) {
	own, header := time.Unix(1700000000, 0).UTC(), time.Unix(1600000000, 0).UTC()
	m := message("", `{"t":1,"ts":1700000000}`)
	if err := normalize.Message(m); err != nil || !m.CreatedAt.Equal(own) {
		t.Errorf("CreatedAt = %v, %v; want the payload's %v", m.CreatedAt, err, own)
	}
	m = message("", `{"t":1,"in":{"u":2,"ts":1700000000}}`)
	m.CreatedAt = header
	if err := normalize.Message(m); err != nil || !m.CreatedAt.Equal(header) {
		t.Errorf("CreatedAt = %v, %v; want the adapter's %v", m.CreatedAt, err, header)
	}
	if got := show(m); got != "t=int:1@2020-09-13T12:26:40Z in.u=int:2@2023-11-14T22:13:20Z" {
		t.Error(got)
	}
}

func TestRefusals(t *testing.T) {
	f := func(payload string, code device.Code, sentence string) {
		t.Helper()
		m := message("application/json", payload)
		err := normalize.Message(m)
		if device.CodeOf(err) != code || !strings.Contains(device.PublicMessage(err), sentence) {
			t.Errorf("%.60q: got %v (%v), want %v with %q", payload, err, device.CodeOf(err), code, sentence)
		}
		if m.Measurements != nil || !m.CreatedAt.IsZero() {
			t.Errorf("%.60q: refused, and yet changed", payload)
		}
	}
	for payload, sentence := range map[string]string{
		``:                 "at byte 0: the text ends where a value should be",
		`{`:                "at byte 1",
		`{"a"}`:            "at byte 4: a colon after the key should be here",
		`{"a":1,}`:         "at byte 7: a key in double quotes should be here",
		`{a:1}`:            "at byte 1: a key in double quotes",
		`{"a":1 "b":2}`:    "at byte 7: a comma or } should be here",
		`[1,]`:             "at byte 3: a value should be here",
		`[1`:               "the text ends where a comma or ] should be",
		`{"a":1}}`:         "at byte 7: more text after the end",
		"{}\x00":           "at byte 2: more text after the end",
		`tru`:              "a value should be here",
		`NaN`:              "a value should be here",
		`01`:               "a number JSON does not allow",
		`-`:                "a number JSON does not allow",
		`+1`:               "a value should be here",
		`1.`:               "ends with its point",
		`1e`:               "exponent has no digits",
		`.5`:               "a value should be here",
		`"abc`:             "the text ends inside a string",
		`"abc\`:            "the text ends inside a string",
		"\"a\nb\"":         "a control character inside a string",
		"\"\\\\\nb\"":      "a control character inside a string",
		`"\x"`:             "an escape JSON does not have",
		`"\u12g4"`:         "without four hexadecimal digits",
		`"\ud800"`:         "half of a surrogate pair",
		`"\ud800\u0041"`:   "half of a surrogate pair",
		"{\"a\":\"\xff\"}": "at byte 6: not valid UTF-8",
	} {
		f(payload, device.Undecodable, sentence)
	}
	many := strings.Repeat(`{"v":1},`, normalize.MaxMeasurements)
	f("["+many+`{"v":1}]`, device.Invalid, "more than 1000 measurements")
	f(`{"`+strings.Repeat("n", normalize.MaxNameBytes+1)+`":1}`, device.Invalid, "the limit is 256")
	f(strings.Repeat("[", normalize.MaxDepth+1), device.Invalid, "deeper than 16 levels")
	f(`{"a\u0007":1}`, device.Invalid, "control character")
	f(`1e999`, device.Invalid, "too large for a 64-bit float")
	f(`{"name":"`+strings.Repeat("n", normalize.MaxNameBytes+1)+`","value":1}`, device.Invalid, "the limit is 256")
}

func TestContentTypes(t *testing.T) {
	f := func(declared, payload, wantType, want string) {
		t.Helper()
		m := message(declared, payload)
		if err := normalize.Message(m); err != nil {
			t.Errorf("%q %.40q: %v", declared, payload, err)
		} else if got := show(m); got != want || m.ContentType != wantType {
			t.Errorf("%q %.40q: got %q %q, want %q %q", declared, payload, m.ContentType, got, wantType, want)
		}
	}
	// Declared: kept as declared.
	f(`Application/JSON; charset=utf-8`, `{"t":1}`, `Application/JSON; charset=utf-8`, `t=int:1`)
	f(`text/json`, `{"t":1}`, `text/json`, `t=int:1`)
	f(`application/vnd.acme+json;v=2`, `{"t":1}`, `application/vnd.acme+json;v=2`, `t=int:1`)
	f(`application/senml+json`, `[{"n":"t","v":1}]`, `application/senml+json`, `t=double:1`)
	f(`Application/SenSML+JSON ; x=y`, `[{"n":"t","v":1}]`, `Application/SenSML+JSON ; x=y`, `t=double:1`)
	f(`application/senml+cbor`, "\x81\xa2\x00\x61t\x02\x01", `application/senml+cbor`, `t=double:1`)
	f(`application/sensml+cbor`, "\x9f\xa2\x00\x61t\x02\x01\xff", `application/sensml+cbor`, `t=double:1`)
	f(`application/senml-exi`, "\xa0", `application/senml-exi`, ``)
	f(`application/cbor`, "\xa1\x61t\x01", `application/cbor`, `t=int:1`)
	f(`application/vnd.acme+cbor; v="1;2"`, "\xa1\x61t\x01", `application/vnd.acme+cbor; v="1;2"`, `t=int:1`)
	f(`application/cbor-seq`, "\x01\x02", `application/cbor-seq`, ``)
	f(`application/cloudevents+avro`, "x", `application/cloudevents+avro`, ``)
	f(`application/cloudevents+cbor`, "x", `application/cloudevents+cbor`, ``)
	f(`+json`, "x", `+json`, ``)
	f(`application/octet-stream`, `{"t":1}`, `application/octet-stream`, ``)
	f(`json`, `{"t":1}`, `json`, ``)
	f(`text/plain`, ` 21.5`+"\n", `text/plain`, `value=double:21.5`)
	f(`text/plain`, `{"t":1}`, `text/plain`, `value=string:{"t":1}`)
	f(`text/plain`, "\xff", `text/plain`, ``)
	f(`text/plain; charset="ISO-8859-1"`, `21.5`, `text/plain; charset="ISO-8859-1"`, ``)
	// Undeclared: sniffed.
	f(``, `{"t":1}`, `application/json`, `t=int:1`)
	f(``, "\n [1,true]", `application/json`, `value.0=int:1 value.1=bool:true`)
	f(``, `"on"`, `application/json`, `value=string:on`)
	f(``, `null`, `application/json`, ``)
	f(``, `21.5`, `text/plain`, `value=double:21.5`)
	f(``, `-3`, `text/plain`, `value=int:-3`)
	f(``, `true`, `text/plain`, `value=bool:true`)
	f(``, `on`, `text/plain`, `value=string:on`)
	f(``, `007`, `text/plain`, `value=string:007`)
	f(``, `1e999`, `text/plain`, `value=string:1e999`)
	f(``, `nice day`, `text/plain`, `value=string:nice day`)
	f(``, `{"t":1`, `text/plain`, `value=string:{"t":1`)
	f(``, " \n", `text/plain`, ``)
	f(``, strings.Repeat("a", normalize.MaxStringBytes+1), `text/plain`, ``)
	f(``, ``, `application/octet-stream`, ``)
	f(``, `[{"bn":"urn:dev:ow:10e2073a01080063:","n":"temp","u":"Cel","v":23.1}]`, `application/senml+json`, `urn:dev:ow:10e2073a01080063:temp[Cel]=double:23.1`)
	f(``, `[{"n":"t","v":1,"x":2}]`, `application/json`, `n=string:t v=int:1 x=int:2`)
	f(``, `[{"bn":"t"}]`, `application/json`, `bn=string:t`)
	f(``, `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"t":1}}`, `application/cloudevents+json`, `t=int:1`)
	f(``, `{"specversion":"1.0","t":1}`, `application/json`, `specversion=string:1.0 t=int:1`)
	f(``, "\xa1\x61t\x01", `application/cbor`, `t=int:1`)
	f(``, "\x81\xa1\x61t\x01", `application/cbor`, `t=int:1`)
	f(``, "\x81\xa2\x00\x61t\x02\x01", `application/senml+cbor`, `t=double:1`)
	f(``, "\xd9\xd9\xf7\x83\x01\x02\x03", `application/cbor`, `value.0=int:1 value.1=int:2 value.2=int:3`)
	f(``, "\x83\x01\x02\x03", `application/octet-stream`, ``)
	f(``, "\x80", `application/octet-stream`, ``)
	f(``, "\x9f\xff", `application/octet-stream`, ``)
	f(``, "\xa0", `application/octet-stream`, ``)
	f(``, "\xa1\x61t\x01\x00", `application/octet-stream`, ``)
	f(``, "\xa1\x61\xff\x01", `application/octet-stream`, ``)
	f(``, "\x00\x01", `application/octet-stream`, ``)
	f(``, "{\"t\":\"\xff\"}", `application/octet-stream`, ``)
	f(``, strings.Repeat("[", 20)+strings.Repeat("]", 20), `application/json`, ``)
	f(``, `[`+strings.Repeat(`{"v":1},`, 1000)+`{"v":1}]`, `application/json`, ``)
	f(``, `[`+strings.Repeat(`{"v":1},`, 1000)+`{"v":1}`, `text/plain`, ``)
}
