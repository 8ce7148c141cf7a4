// Package normalize reads typed measurements out of payloads: bytes in,
// device.Measurement out, one file a format. It is pure: no input or output, no
// clock, no state, and the payload is never altered.
//
// # What is decoded
//
// The declared content type decides (parameters such as charset are looked at,
// not kept apart):
//
//   - application/json, text/json and every */*+json: JSON. A payload that does
//     not parse is refused as device.Undecodable, one that parses but exceeds a
//     bound below as device.Invalid; both sentences say where.
//   - text/plain: one number, true/false or short text. Never refused.
//   - any other declared type, SenML and CBOR included until their decoders
//     exist: kept as it is, with no measurements. The caller counts those.
//   - no declared type: sniffed, see sniff.go. Never refused.
//
// # JSON
//
// An object gives one measurement for each scalar in it, named by its path:
// {"motor":{"rpm":900}} is motor.rpm. In names a "." or "\" of a key is written
// "\." or "\\", and an empty key "\e", so that names can be taken apart again.
// A scalar that stands alone is called "value".
//
//   - Numbers without fraction and exponent that fit 64 bits are integers, all
//     others doubles; null gives nothing; a string longer than MaxStringBytes
//     stays in the payload only.
//   - An array of objects is an array of records: each gives its measurements
//     under the array's own name, with its own time. Other elements are named
//     by their index ("axis.0"); an array with more than MaxIndexed of them (a
//     waveform, an image) stays in the payload only.
//   - In any object a key "ts", "time" or "timestamp" that holds a time is the
//     time of all measurements in that object, inner objects without their own
//     included, and no measurement itself. A time is RFC 3339 text or a number
//     of seconds, milli-, micro- or nanoseconds since 1970, recognised by its
//     size and between the years 2000 and 2100; anything else under these keys
//     is an ordinary value. When several keys hold a time the first counts.
//     The outermost object's time also fills CreatedAt when that is zero.
//   - An object of only "name" (text), "value" (scalar) and perhaps "unit"
//     (text), besides a time, is one measurement of that name, taken as given.
//   - A repeated key gives one measurement each time, in the order of the text.
package normalize

import (
	"strings"

	"github.com/tributary-iot/tributary/device"
)

// Bounds of what one payload may turn into.
const (
	MaxMeasurements = 1000 // measurements in one message
	MaxNameBytes    = 256  // a measurement's name, escaped
	MaxDepth        = 16   // objects and arrays inside one another
	MaxStringBytes  = 1024 // a string measurement; longer text is payload only
	MaxIndexed      = 32   // elements of an array that are named by their index
)

// The content types normalize itself writes.
const (
	typeJSON = "application/json"
	typeText = "text/plain"
)

// Message fills m.ContentType and m.Measurements from the declared
// m.ContentType (empty when none was declared) and m.Payload, and m.CreatedAt
// from the payload's own time when the adapter knew none.
//
// It answers an *device.Error of code Undecodable or Invalid when a declared
// JSON payload cannot be kept; m is then unchanged. It is safe for concurrent
// use on different messages.
func Message(m *device.Message) error {
	if m.ContentType == "" {
		sniff(m)
	} else {
		switch media, charset := mediaType(m.ContentType); {
		case isJSON(media):
			if err := decodeJSON(m); err != nil {
				return err
			}
		case media == typeText && isUTF8Name(charset):
			decodeText(m)
		}
	}
	stamp(m)
	return nil
}

// stamp gives measurements without a time of their own the message's.
func stamp(m *device.Message) {
	at := m.CreatedAt
	if at.IsZero() {
		at = m.ReceivedAt
	}
	for i := range m.Measurements {
		if m.Measurements[i].Time.IsZero() {
			m.Measurements[i].Time = at
		}
	}
}

// mediaType splits a declared content type into type/subtype in lower case and
// the value of its charset parameter. It is lenient: what it cannot read is a
// type no decoder knows.
func mediaType(declared string) (media, charset string) {
	media, params, more := strings.Cut(declared, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	for more {
		var param string
		param, params, more = strings.Cut(params, ";")
		name, value, _ := strings.Cut(param, "=")
		if strings.EqualFold(strings.TrimSpace(name), "charset") {
			charset = strings.ToLower(strings.Trim(strings.TrimSpace(value), `"`))
		}
	}
	return media, charset
}

func isJSON(media string) bool {
	switch media {
	case typeJSON, "text/json":
		return true
	case "application/senml+json", "application/sensml+json":
		return false // has its own decoder one day; until then kept as it is
	}
	return strings.HasSuffix(media, "+json") && strings.Contains(media, "/")
}

func isUTF8Name(charset string) bool {
	return charset == "" || charset == "utf-8" || charset == "utf8" || charset == "us-ascii"
}
