package normalize_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/normalize"
)

const ow = "urn:dev:ow:10e2073a01080063"

// TestSenMLExamples reads the examples of RFC 8428, section 5.1; each is quoted
// as it stands there.
func TestSenMLExamples(t *testing.T) {
	f := func(section, payload, want string) {
		t.Helper()
		m := message("application/senml+json", payload)
		if err := normalize.Message(m); err != nil {
			t.Errorf("section %s: %v", section, err)
		} else if got := show(m); got != want {
			t.Errorf("section %s:\n got %s\nwant %s", section, got, want)
		}
	}
	f("5.1.1", `[
     {"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}
   ]`, ow+"[Cel]=double:23.1")
	f("5.1.2, first", `[
  {"bn":"urn:dev:ow:10e2073a01080063:","n":"voltage","u":"V","v":120.1},
  {"n":"current","u":"A","v":1.2}
]`, ow+":voltage[V]=double:120.1 "+ow+":current[A]=double:1.2")
	f("5.1.2, second", `[
     {"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,
      "bu":"A","bver":5,
      "n":"voltage","u":"V","v":120.1},
     {"n":"current","t":-5,"v":1.2},
     {"n":"current","t":-4,"v":1.3},
     {"n":"current","t":-3,"v":1.4},
     {"n":"current","t":-2,"v":1.5},
     {"n":"current","t":-1,"v":1.6},
     {"n":"current","v":1.7}
   ]`, fiveSeconds)
	f("5.1.2, third", `[
     {"bn":"urn:dev:ow:10e2073a01080063","bt":1.320067464e+09,
      "bu":"%RH","v":21.2},
     {"t":10,"v":21.3},
     {"t":80,"v":21.7}]`, ow+"[%RH]=double:21.2@2011-10-31T13:24:24Z "+ow+"[%RH]=double:21.3@2011-10-31T13:24:34Z "+
		ow+"[%RH]=double:21.7@2011-10-31T13:25:44Z")
	f("5.1.5", `[
    {"bn":"urn:dev:ow:10e2073a01080063:","n":"temp","u":"Cel","v":23.1},
    {"n":"label","vs":"Machine Room"},
    {"n":"open","vb":false},
    {"n":"nfv-reader","vd":"aGkgCg"}
  ]`, ow+":temp[Cel]=double:23.1 "+ow+":label=string:Machine Room "+ow+":open=bool:false "+ow+":nfv-reader=bytes:6869200a")
	const hosts = "@2011-10-31T16:27:09Z"
	f("5.1.6", `[
     {"bn":"2001:db8::2/","bt":1.320078429e+09,
      "n":"temperature","u":"Cel","v":25.2},
     {"n":"humidity","u":"%RH","v":30},
     {"bn":"2001:db8::1/","n":"temperature","u":"Cel","v":12.3},
     {"n":"humidity","u":"%RH","v":67}
   ]`, "2001:db8::2/temperature[Cel]=double:25.2"+hosts+" 2001:db8::2/humidity[%RH]=double:30"+hosts+
		" 2001:db8::1/temperature[Cel]=double:12.3"+hosts+" 2001:db8::1/humidity[%RH]=double:67"+hosts)
	f("5.1.7, first", `[
     {"bn":"urn:dev:ow:10e2073a01080063:"},
     {"n":"temp","u":"Cel","v":23.1},
     {"n":"heat","u":"/","v":1},
     {"n":"fan","u":"/","v":0}
   ]`, ow+":temp[Cel]=double:23.1 "+ow+":heat[/]=double:1 "+ow+":fan[/]=double:0")
	f("5.1.7, third", `[
     {"bt":1.320078429e+09,"bu":"/","n":"2001:db8::3","v":0.5},
     {"n":"2001:db8::4","v":0.5},
     {"n":"2001:db8::3","t":0.1,"v":0},
     {"n":"2001:db8::4","t":0.1,"v":0}
   ]`, "2001:db8::3[/]=double:0.5"+hosts+" 2001:db8::4[/]=double:0.5"+hosts+
		" 2001:db8::3[/]=double:0@2011-10-31T16:27:09.1Z 2001:db8::4[/]=double:0@2011-10-31T16:27:09.1Z")
}

const fiveSeconds = "urn:dev:ow:10e2073a0108006:voltage[V]=double:120.1@2010-06-08T18:01:16.001Z" +
	" urn:dev:ow:10e2073a0108006:current[A]=double:1.2@2010-06-08T18:01:11.001Z" +
	" urn:dev:ow:10e2073a0108006:current[A]=double:1.3@2010-06-08T18:01:12.001Z" +
	" urn:dev:ow:10e2073a0108006:current[A]=double:1.4@2010-06-08T18:01:13.001Z" +
	" urn:dev:ow:10e2073a0108006:current[A]=double:1.5@2010-06-08T18:01:14.001Z" +
	" urn:dev:ow:10e2073a0108006:current[A]=double:1.6@2010-06-08T18:01:15.001Z" +
	" urn:dev:ow:10e2073a0108006:current[A]=double:1.7@2010-06-08T18:01:16.001Z"

// The dump of RFC 8428, section 6: the second example of 5.1.2 in CBOR.
const senmlDump = `
 87 a7 21 78 1b 75 72 6e 3a 64 65 76 3a 6f 77 3a
 31 30 65 32 30 37 33 61 30 31 30 38 30 30 36 3a
 22 fb 41 d3 03 a1 5b 00 10 62 23 61 41 20 05 00
 67 76 6f 6c 74 61 67 65 01 61 56 02 fb 40 5e 06
 66 66 66 66 66 a3 00 67 63 75 72 72 65 6e 74 06
 24 02 fb 3f f3 33 33 33 33 33 33 a3 00 67 63 75
 72 72 65 6e 74 06 23 02 fb 3f f4 cc cc cc cc cc
 cd a3 00 67 63 75 72 72 65 6e 74 06 22 02 fb 3f
 f6 66 66 66 66 66 66 a3 00 67 63 75 72 72 65 6e
 74 06 21 02 f9 3e 00 a3 00 67 63 75 72 72 65 6e
 74 06 20 02 fb 3f f9 99 99 99 99 99 9a a3 00 67
 63 75 72 72 65 6e 74 06 00 02 fb 3f fb 33 33 33
 33 33 33`

func TestSenMLCBORExample(t *testing.T) {
	for _, declared := range []string{"application/senml+cbor", ""} {
		m := message(declared, fromHex(t, strings.Join(strings.Fields(senmlDump), "")))
		if err := normalize.Message(m); err != nil || show(m) != fiveSeconds || m.ContentType != "application/senml+cbor" {
			t.Errorf("declared %q: %v, %s\n got %s\nwant %s", declared, err, m.ContentType, show(m), fiveSeconds)
		}
	}
}

// TestSenMLResolved holds the example of 5.1.3 and its resolved form in 5.1.4
// to each other.
func TestSenMLResolved(t *testing.T) {
	example := message("application/senml+json", `[
     {"bn":"urn:dev:ow:10e2073a01080063","bt":1.320067464e+09,
      "bu":"%RH","v":20},
     {"u":"lon","v":24.30621},
     {"u":"lat","v":60.07965},
     {"t":60,"v":20.3},
     {"u":"lon","t":60,"v":24.30622},
     {"u":"lat","t":60,"v":60.07965},
     {"t":120,"v":20.7},
     {"u":"lon","t":120,"v":24.30623},
     {"u":"lat","t":120,"v":60.07966},
     {"u":"%EL","t":150,"v":98},
     {"t":180,"v":21.2},
     {"u":"lon","t":180,"v":24.30628},
     {"u":"lat","t":180,"v":60.07967}
   ]`)
	var records []string
	for _, r := range []struct {
		u, t string
		v    float64
	}{
		{"%RH", "1.320067464e+09", 20}, {"lon", "1.320067464e+09", 24.30621}, {"lat", "1.320067464e+09", 60.07965},
		{"%RH", "1.320067524e+09", 20.3}, {"lon", "1.320067524e+09", 24.30622}, {"lat", "1.320067524e+09", 60.07965},
		{"%RH", "1.320067584e+09", 20.7}, {"lon", "1.320067584e+09", 24.30623}, {"lat", "1.320067584e+09", 60.07966},
		{"%EL", "1.320067614e+09", 98},
		{"%RH", "1.320067644e+09", 21.2}, {"lon", "1.320067644e+09", 24.30628}, {"lat", "1.320067644e+09", 60.07967},
	} {
		records = append(records, fmt.Sprintf(`{"n":"%s","u":"%s","t":%s,"v":%v}`, ow, r.u, r.t, r.v))
	}
	resolved := message("application/senml+json", "["+strings.Join(records, ",")+"]")
	for _, m := range []*device.Message{example, resolved} {
		if err := normalize.Message(m); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := show(example), show(resolved); a != b || len(example.Measurements) != 13 {
		t.Errorf("%d measurements\n%s\nresolved\n%s", len(example.Measurements), a, b)
	}
}

func TestSenMLRules(t *testing.T) {
	f := func(payload, want string) {
		t.Helper()
		m := message("application/senml+json", payload)
		if err := normalize.Message(m); err != nil || show(m) != want {
			t.Errorf("%s: %v\n got %s\nwant %s", payload, err, show(m), want)
		}
	}
	f(`[]`, ``)
	// Values and sums (section 4.5.4).
	f(`[{"bn":"x","bv":20,"v":1.5},{"v":2},{"n":"y"},{"n":"z","vs":"text"}]`, `x=double:21.5 x=double:22 xy=double:20 xz=string:text`)
	f(`[{"bn":"x","bv":20},{"v":1}]`, `x=double:21`)
	f(`[{"bn":"m","u":"W","v":5,"s":100}]`, `m[W]=double:5 m.sum[J]=double:100`)
	f(`[{"bn":"m","u":"Cel","bs":100,"s":7},{"v":1},{"vb":true},{"n":"2","bs":0,"v":3}]`,
		`m.sum[Cel*s]=double:107 m=double:1 m.sum=double:100 m=bool:true m2=double:3 m2.sum=double:0`)
	// Units (section 4.5.2; RFC 8798, section 3).
	f(`[{"bn":"x","bu":"V","v":1},{"v":2,"u":"A"},{"v":3},{"bu":"","v":4}]`, `x[V]=double:1 x[A]=double:2 x[V]=double:3 x=double:4`)
	f(`[{"n":"delay","u":"ms","v":100},{"n":"rssi","u":"dBm","v":10}]`, `delay[s]=double:0.1 rssi[dBW]=double:-20`)
	f(`[{"bver":26,"n":"e","u":"kWh","v":1.5},{"n":"p","u":"kW","v":2,"s":3},{"n":"r","u":"dBm","v":0,"s":3},{"n":"s","u":"kW","vs":"off"}]`,
		`e[J]=double:5.4e+06 p[W]=double:2000 p.sum[J]=double:3000 r[dBW]=double:-30 r.sum[dBm*s]=double:3 s[kW]=string:off`)
	f(`[{"n":"x","u":"furlong","v":1}]`, `x[furlong]=double:1`)
	// Times (section 4.5.3); the message was received 2026-05-04T03:02:01Z.
	f(`[{"n":"x","t":-1.5,"v":1},{"n":"x","t":0,"v":2},{"n":"x","t":60,"v":3}]`,
		`x=double:1@2026-05-04T03:01:59.5Z x=double:2 x=double:3@2026-05-04T03:03:01Z`)
	f(`[{"n":"x","t":268435455,"v":1},{"n":"x","t":268435456,"v":2}]`, `x=double:1@2034-11-05T00:26:16Z x=double:2@1978-07-04T21:24:16Z`)
	f(`[{"n":"x","bt":268435450,"t":6,"v":1},{"n":"x","t":-268435450,"v":2}]`, `x=double:1@1978-07-04T21:24:16Z x=double:2`)
	// Extensions, versions, forgiven things (section 4.4).
	f(`[{"n":"x","v":1,"ut":5,"more":{"v":[2]},"_x":null}]`, `x=double:1`)
	f(`[{"bver":10,"n":"x","v":1},{"bver":10,"n":"x","v":2}]`, `x=double:1 x=double:2`)
	f(`[{"n":"x","vd":"aGkgCg=="},{"n":"x","vd":""},{"n":"x","vs":"`+strings.Repeat("s", 1025)+`"}]`, `x=bytes:6869200a x=bytes:`)
}

// TestSenMLNow holds relative times to the device's own clock where it showed it.
func TestSenMLNow(t *testing.T) {
	m := message("application/senml+json", `[{"n":"x","t":-60,"v":1}]`)
	m.CreatedAt = received.Add(-time.Hour)
	if err := normalize.Message(m); err != nil || show(m) != "x=double:1@2026-05-04T02:01:01Z" || !m.CreatedAt.Equal(received.Add(-time.Hour)) {
		t.Errorf("%v, %s, created %v", err, show(m), m.CreatedAt)
	}
}

func TestSenMLRefusals(t *testing.T) {
	f := func(payload string, code device.Code, sentence string) {
		t.Helper()
		m := message("application/senml+json", payload)
		err := normalize.Message(m)
		if device.CodeOf(err) != code || !strings.Contains(device.PublicMessage(err), sentence) || m.Measurements != nil {
			t.Errorf("%.60s: got %v (%v), want %v with %q", payload, err, device.CodeOf(err), code, sentence)
		}
	}
	for payload, sentence := range map[string]string{
		``:                                  "must be an array",
		`{}`:                                "must be an array",
		`[`:                                 "not valid JSON",
		`[{"n":"x","v":1}] x`:               "not valid JSON at byte 18",
		"[{\"n\":\"\xff\",\"v\":1}]":        "not valid UTF-8",
		`[1]`:                               "record 1 is not an object",
		`[{"n":"x","v":1},{"n":"y"}]`:       "record 2 has no value",
		`[{"n":"x","v":1,"vs":"1"}]`:        "record 1 has more than one of",
		`[{"v":1}]`:                         "needs a name",
		`[{"n":"-x","v":1}]`:                "needs a name",
		`[{"n":"a b","v":1}]`:               "needs a name",
		`[{"n":"é","v":1}]`:                 "needs a name",
		`[{"n":"x","v":"1"}]`:               "wrong type: v",
		`[{"n":"x","vs":1}]`:                "wrong type: vs",
		`[{"n":"x","vb":1}]`:                "wrong type: vb",
		`[{"n":"x","vd":"~"}]`:              "wrong type: vd",
		`[{"n":"x","vd":1}]`:                "wrong type: vd",
		`[{"n":7,"v":1}]`:                   "wrong type: n",
		`[{"n":"x","v":null}]`:              "wrong type: v",
		`[{"n":"x","v":[1]}]`:               "no single value: v",
		`[{"n":"x","v":1,"v":2}]`:           "same field twice: v",
		`[{"n":"x","v":1,"need_":2}]`:       "must be understood and is not: need_",
		`[{"n":"x","bver":11,"v":1}]`:       "newer SenML",
		`[{"n":"x","bver":42,"v":1}]`:       "newer SenML",
		`[{"n":"x","bver":0,"v":1}]`:        "no positive integer",
		`[{"n":"x","bver":9.5,"v":1}]`:      "no positive integer",
		`[{"bver":9},{"bver":10}]`:          "another bver",
		`[{"n":"x","v":1},{"bver":26}]`:     "another bver",
		`[{"n":"x","t":4102444800,"v":1}]`:  "beyond the year 2100",
		`[{"n":"x","t":-4102444800,"v":1}]`: "before 1970",
		`[{"n":"x","t":-1e300,"v":1}]`:      "before 1970",
		`[{"n":"x","bt":1e308,"t":1e308}]`:  "has no value",
		`[{"n":"x","v":1,"u":"\n"}]`:        "control characters",
		`[{"n":"x","v":1,"u":"` + strings.Repeat("u", 65) + `"}]`: "too long",
	} {
		f(payload, device.Undecodable, sentence)
	}
	f("["+strings.Repeat(`{"n":"x","v":1},`, normalize.MaxMeasurements)+`{"n":"x","v":1}]`, device.Invalid, "more than 1000 measurements")
	f(`[{"n":"`+strings.Repeat("n", 257)+`","v":1}]`, device.Invalid, "the limit is 256")
	f(`[{"bn":"x","bv":1e308,"v":1e308}]`, device.Invalid, "too large")
	f(`[{"bn":"x","v":1e999}]`, device.Invalid, "too large")
	f(`[{"n":"x","v":1,"y":`+strings.Repeat("[", 20), device.Invalid, "nests deeper")
}

func TestSenMLCBORRules(t *testing.T) {
	f := func(encoded, want string) {
		t.Helper()
		m := message("application/senml+cbor", fromHex(t, encoded))
		if err := normalize.Message(m); err != nil || show(m) != want {
			t.Errorf("%s: %v\n got %s\nwant %s", encoded, err, show(m), want)
		}
	}
	f("81 a3 00 6178 08 426869 617a c48221196ab3", "x=bytes:6869") // an unknown text label
	f("81 a2 00 6178 02 c48221196ab3", "x=double:273.15")          // a decimal fraction (section 6)
	f("81 a2 616e 6178 6176 01", "x=double:1")                     // labels as text
	f("81 a3 00 6178 02 01 6132 02", "x=double:1")                 // the text "2" is not the label 2
	f("81 a3 00 6178 02 01 1863 02", "x=double:1")                 // an integer that is no label
	f("9f bf 00 6178 03 7f 6161 6162 ff ff ff", "x=string:ab")     // SensML
	refused := func(encoded, sentence string) {
		t.Helper()
		m := message("application/senml+cbor", fromHex(t, encoded))
		if err := normalize.Message(m); device.CodeOf(err) != device.Undecodable || !strings.Contains(device.PublicMessage(err), sentence) {
			t.Errorf("%s: %v, want %q", encoded, err, sentence)
		}
	}
	refused("a0", "must be an array")
	refused("81", "not well-formed CBOR")
	refused("81 a2 00 6178 08 6161", "wrong type: 8")
	refused("81 a2 00 6178 02 f97e00", "wrong type: 2")
	refused("81 a3 00 6178 02 01 626e5f 01", "must be understood and is not: n_")
	refused("81 a2 00 4178 02 01", "wrong type: 0")
}
