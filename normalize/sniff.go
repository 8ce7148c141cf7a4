package normalize

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tributary-iot/tributary/device"
)

// sniff decides the content type of a payload that came without one, by its
// bytes alone; the first that fits:
//
//   - a JSON object that is a CloudEvent 1.0: application/cloudevents+json.
//   - an array of records with no fields but SenML's that resolves, in JSON or
//     CBOR: application/senml+json, application/senml+cbor.
//   - valid JSON that is an object, an array, a string or null: application/json.
//     JSON beyond a bound is kept so too, without measurements: the device
//     promised nothing, so it is not refused.
//   - other UTF-8 text without control characters, bare numbers and booleans
//     included: text/plain.
//   - a CBOR map with a value, an array that begins with a map, or anything
//     tagged as CBOR (55799): application/cbor. A few bytes of any meaning can
//     be CBOR, so the rest of it is not believed.
//   - everything else, the empty payload included: application/octet-stream.
func sniff(m *device.Message) {
	switch {
	case looksJSON(m.Payload) && sniffJSON(m):
	case isText(m.Payload):
		m.ContentType = typeText
		_ = decodeText(m) // refuses nothing
	case sniffCBOR(m):
	default:
		m.ContentType = device.OctetStream
	}
}

// attempt decodes m as a type nobody declared; false leaves it as it was.
func attempt(m *device.Message, contentType string, decode decoder) bool {
	trial := *m
	trial.ContentType = contentType
	if decode(&trial) != nil {
		return false
	}
	*m = trial
	return true
}

func sniffJSON(m *device.Message) bool {
	switch {
	case bytes.Contains(m.Payload, []byte("specversion")) && attempt(m, typeCloudEvent, decodeCloudEvent):
		return true
	case bytes.HasPrefix(bytes.TrimLeft(m.Payload, " \t\r\n"), []byte("[")) && attempt(m, typeSenML, sniffSenML):
		return true
	}
	err := decodeJSON(m)
	if err == nil || device.CodeOf(err) == device.Invalid && isValidJSON(m.Payload) {
		m.ContentType = typeJSON
		return true
	}
	return false
}

func sniffCBOR(m *device.Message) bool {
	r, err := readCBOR(m.Payload)
	if err != nil {
		return false
	}
	tagged := bytes.HasPrefix(m.Payload, []byte{0xd9, 0xd9, 0xf7})
	switch kind := r.kind(); {
	case kind == arrayKind && attempt(m, typeSenMLCBOR, sniffSenML):
		return true
	case kind == arrayKind && !tagged:
		if r.begin(); r.i == len(r.p) || r.p[r.i] == cborBreak || r.kind() != objectKind {
			return false
		}
	case kind == scalarKind && !tagged:
		return false
	}
	trial := *m
	if decodeCBOR(&trial) != nil || len(trial.Measurements) == 0 && !tagged {
		return false
	}
	trial.ContentType = typeCBOR
	*m = trial
	return true
}

// looksJSON reports whether the first byte that is not a space can begin the
// kinds of JSON that are not plain text as well.
func looksJSON(payload []byte) bool {
	payload = bytes.TrimLeft(payload, " \t\r\n")
	if len(payload) == 0 {
		return false
	}
	switch payload[0] {
	case '{', '[', '"', 'n':
		return true
	}
	return false
}

// isValidJSON is asked only about payloads the walk gave up on for their size
// or depth, so its speed does not matter.
func isValidJSON(payload []byte) bool {
	return jsontext.Value(payload).IsValid(jsontext.AllowDuplicateNames(true))
}
