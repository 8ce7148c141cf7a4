package normalize

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tributary-iot/tributary/device"
)

// sniff decides the content type of a payload that came without one, by its
// bytes alone:
//
//   - valid JSON that is an object, an array, a string or null: application/json.
//     JSON beyond a bound is kept so too, without measurements: the device
//     promised nothing, so it is not refused.
//   - other UTF-8 text without control characters, bare numbers and booleans
//     included: text/plain.
//   - everything else, the empty payload included: application/octet-stream.
func sniff(m *device.Message) {
	if looksJSON(m.Payload) {
		err := decodeJSON(m)
		if err == nil || device.CodeOf(err) == device.Invalid && isValidJSON(m.Payload) {
			m.ContentType = typeJSON
			return
		}
	}
	if isText(m.Payload) {
		m.ContentType = typeText
		decodeText(m)
		return
	}
	m.ContentType = device.OctetStream
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
