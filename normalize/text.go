package normalize

import (
	"bytes"
	"unicode/utf8"

	"github.com/tributary-iot/tributary/device"
)

// valueName is the name of a measurement whose payload is nothing but a value.
const valueName = "value"

// decodeText reads a plain text payload: a number as JSON writes numbers, true
// or false, or text of at most MaxStringBytes, spaces around it left out. What
// is longer, empty, or not text after all gives no measurement.
func decodeText(m *device.Message) error {
	text := bytes.TrimSpace(m.Payload)
	if len(text) == 0 || len(text) > MaxStringBytes || !isText(text) {
		return nil
	}
	m.Measurements = []device.Measurement{{Name: valueName, Value: textValue(text)}}
	return nil
}

func textValue(text []byte) device.Value {
	switch string(text) {
	case "true":
		return device.Bool(true)
	case "false":
		return device.Bool(false)
	}
	if s := (scanner{p: text}); text[0] == '-' || isDigit(text[0]) {
		if v, err := s.number(); err == nil && s.i == len(text) {
			return v
		}
	}
	return device.String(string(text))
}

// isText reports whether b is non-empty UTF-8 that a person could read: no
// control characters but tab and line ends.
func isText(b []byte) bool {
	for _, c := range b {
		if c < 0x20 && c != '\t' && c != '\n' && c != '\r' || c == 0x7f {
			return false
		}
	}
	return len(b) > 0 && utf8.Valid(b)
}
