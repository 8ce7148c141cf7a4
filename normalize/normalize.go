// Package normalize reads typed measurements out of payloads: bytes in,
// device.Measurement out, one file a format. It is pure: no input or output, no
// clock, no state, and the payload is never altered. docs/formats.md says the
// same to people who write devices.
//
// # What is decoded
//
// The declared content type decides; of its parameters only the charset of
// text is looked at:
//
//   - application/senml+json, application/senml+cbor and the sensml ones: SenML
//     (RFC 8428, 8798, 9100), senml.go.
//   - application/cloudevents+json: one CloudEvent, cloudevents.go. A batch of
//     them is many messages: see Batch.
//   - application/json, text/json and every other */*+json: JSON (RFC 8259).
//   - application/cbor and every other */*+cbor: CBOR (RFC 8949).
//   - text/plain: one number, true/false or short text. Never refused.
//   - any other declared type: kept as it is, with no measurements. The caller
//     counts those.
//   - no declared type: sniffed, see sniff.go. Never refused.
//
// A payload that does not parse as its declared type is refused as
// device.Undecodable, one that parses but exceeds a bound below as
// device.Invalid; both sentences say where.
//
// # JSON and CBOR
//
// An object gives one measurement for each scalar in it, named by its path:
// {"motor":{"rpm":900}} is motor.rpm. In names a "." or "\" of a key is written
// "\." or "\\", and an empty key "\e", so that names can be taken apart again.
// A scalar that stands alone is called "value".
//
//   - Numbers without fraction and exponent that fit 64 bits are integers, all
//     others doubles; null gives nothing; text or bytes longer than
//     MaxStringBytes stay in the payload only.
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
//   - Of CBOR alone: an integer key is named by its digits, a value under
//     another kind of key is payload only; bignums, decimal fractions and
//     bigfloats are numbers, other tags say nothing; NaN, infinities, undefined
//     and unassigned simple values give nothing.
package normalize

import (
	"strings"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// Bounds of what one payload may turn into.
const (
	MaxMeasurements = 1000 // measurements in one message
	MaxNameBytes    = 256  // a measurement's name, escaped
	MaxDepth        = 16   // objects and arrays inside one another
	MaxStringBytes  = 1024 // a string or bytes measurement; longer ones are payload only
	MaxIndexed      = 32   // elements of an array that are named by their index
)

// The content types normalize itself writes or knows by name.
const (
	typeJSON            = "application/json"
	typeCBOR            = "application/cbor"
	typeText            = "text/plain"
	typeSenML           = "application/senml+json"
	typeSenMLCBOR       = "application/senml+cbor"
	typeCloudEvent      = "application/cloudevents+json"
	typeCloudEventBatch = "application/cloudevents-batch+json"
)

// Message fills m.ContentType and m.Measurements from the declared
// m.ContentType (empty when none was declared) and m.Payload, and m.CreatedAt
// from the payload's own time when the adapter knew none. A CloudEvent in the
// payload also fills Key and Properties.
//
// It answers an *device.Error of code Undecodable or Invalid when a payload
// cannot be kept as what it was declared to be; m is then unchanged. It is safe
// for concurrent use on different messages.
func Message(m *device.Message) error {
	if m.ContentType == "" {
		sniff(m)
	} else if isEvent(m) && len(m.Payload) == 0 {
		return nil // an event may go without data, whatever type it would have
	} else if decode := decoderOf(m.ContentType); decode != nil {
		if err := decode(m); err != nil {
			return err
		}
	}
	stamp(m)
	return nil
}

// decoder fills the measurements of a message, or leaves it as it is and says
// why.
type decoder func(*device.Message) error

// decoderOf finds the decoder of a declared content type; nil when there is none.
func decoderOf(declared string) decoder {
	media, charset := mediaType(declared)
	if data := dataDecoder(media, charset); data != nil {
		return data
	}
	switch media {
	case typeCloudEvent:
		return decodeCloudEvent
	case typeCloudEventBatch:
		return refuseBatch
	}
	return nil
}

// dataDecoder finds the decoder of a type that may stand inside a CloudEvent.
func dataDecoder(media, charset string) decoder {
	switch media {
	case typeSenML, "application/sensml+json":
		return decodeSenML
	case typeSenMLCBOR, "application/sensml+cbor":
		return decodeSenMLCBOR
	case typeText:
		if isUTF8Name(charset) {
			return decodeText
		}
	case typeJSON, "text/json":
		return decodeJSON
	case typeCBOR:
		return decodeCBOR
	}
	kind, subtype, ok := strings.Cut(media, "/")
	switch {
	case !ok || kind == "" || isCloudEvent(media):
		return nil
	case strings.HasSuffix(subtype, "+json"):
		return decodeJSON
	case strings.HasSuffix(subtype, "+cbor"):
		return decodeCBOR
	}
	return nil
}

// stamp gives measurements without a time of their own the message's.
func stamp(m *device.Message) {
	at := timeOf(m)
	for i := range m.Measurements {
		if m.Measurements[i].Time.IsZero() {
			m.Measurements[i].Time = at
		}
	}
}

// timeOf is when a message was made, as far as anybody knows.
func timeOf(m *device.Message) time.Time {
	if m.CreatedAt.IsZero() {
		return m.ReceivedAt
	}
	return m.CreatedAt
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

func isUTF8Name(charset string) bool {
	return charset == "" || charset == "utf-8" || charset == "utf8" || charset == "us-ascii"
}
