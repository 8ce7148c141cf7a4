package normalize

import (
	"encoding/base64"
	"maps"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tributary-iot/tributary/device"
)

// eventProperty begins the properties made of a CloudEvent's attributes,
// whatever protocol and mode it came in.
const eventProperty = "ce-"

// The attributes every CloudEvent has (CloudEvents 1.0.2, required attributes).
var requiredAttributes = [...]string{"specversion", "id", "source", "type"}

// CloudEvent makes m the message of a CloudEvent whose context attributes the
// adapter found beside the payload (binary mode); Message then decodes the
// data. What maps where:
//
//	id                    Key, in place of the protocol's own
//	time                  CreatedAt, likewise
//	datacontenttype       ContentType, when the protocol declared none
//	all other attributes  Properties, each named "ce-" and its name
//
// None of them changes whose message it is. In structured mode, when the content
// type says that the payload is the event, attributes beside it are copies and
// nothing happens. It answers an *device.Error of code
// Undecodable when the attributes are not those of a CloudEvent 1.0, or Invalid
// when the message exceeds a bound; m is then unchanged.
func CloudEvent(m *device.Message, attributes map[string]string) error {
	if media, _ := mediaType(m.ContentType); media == typeCloudEvent || media == typeCloudEventBatch {
		return nil
	}
	return toEvent(m, attributes)
}

// toEvent is CloudEvent whatever the content type.
func toEvent(m *device.Message, attributes map[string]string) error {
	for _, name := range requiredAttributes {
		if attributes[name] == "" {
			return notEvent("the attribute " + name + " is missing")
		}
	}
	if v := attributes["specversion"]; v != "1.0" {
		return notEvent("specversion is " + strconv.Quote(shorten(v)) + ", only 1.0 is understood")
	}
	event := *m
	event.Key = attributes["id"]
	event.Properties = maps.Clone(m.Properties)
	if event.Properties == nil {
		event.Properties = make(map[string]string, len(attributes))
	}
	for name, value := range attributes {
		if !IsAttribute(name) {
			return notEvent(strconv.Quote(shorten(name)) + " is no attribute name: those are lower-case letters and digits")
		}
		if !isAttributeText(value) {
			return notEvent("the attribute " + shorten(name) + " is not UTF-8 or holds control characters")
		}
		switch name {
		case "id", "time":
		case "datacontenttype":
			if event.ContentType == "" {
				event.ContentType = value
			}
		default:
			event.Properties[eventProperty+name] = value
		}
	}
	if text := attributes["time"]; text != "" {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil || at.Year() < 1970 || at.Year() > 2200 {
			return notEvent("time must be a time like 2026-01-31T12:00:00.5Z")
		}
		event.CreatedAt = at.UTC()
	}
	if err := event.Validate(); err != nil {
		return err
	}
	*m = event
	return nil
}

// IsAttribute reports whether name can name an attribute of a CloudEvent.
func IsAttribute(name string) bool {
	for i := range len(name) {
		if c := name[i]; !isDigit(c) && (c < 'a' || c > 'z') {
			return false
		}
	}
	return name != ""
}

// isAttributeText reports whether value may be one (type String of the type
// system).
func isAttributeText(value string) bool {
	return utf8.ValidString(value) && !strings.ContainsFunc(value, func(r rune) bool {
		return r < 0x20 || r >= 0x7f && r < 0xa0
	})
}

// isCloudEvent reports whether a media type is an event format, known or not.
func isCloudEvent(media string) bool { return strings.HasPrefix(media, "application/cloudevents") }

func notEvent(what string) error {
	return device.Errorf(device.Undecodable, "not a CloudEvent 1.0: %s", what)
}

// isEvent reports whether CloudEvent made m.
func isEvent(m *device.Message) bool { return m.Properties[eventProperty+"specversion"] != "" }

// decodeCloudEvent fills m from its payload, one event in the JSON format.
func decodeCloudEvent(m *device.Message) error {
	s, err := scan(m.Payload)
	if err != nil {
		return err
	}
	e, err := readEnvelope(s)
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return err
	}
	event := *m
	event.ContentType = e.attributes["datacontenttype"]
	if err := toEvent(&event, e.attributes); err != nil {
		return err
	}
	if err := e.decodeData(&event); err != nil {
		return err
	}
	event.ContentType = m.ContentType
	*m = event
	return nil
}

// decodeData reads the measurements of an event's data as its datacontenttype
// says; in this format none means JSON.
func (e *envelope) decodeData(event *device.Message) error {
	if !e.hasData {
		return nil
	}
	media, charset := typeJSON, ""
	if event.ContentType != "" {
		media, charset = mediaType(event.ContentType)
	}
	data := device.Message{CreatedAt: event.CreatedAt, ReceivedAt: event.ReceivedAt, Payload: e.data}
	switch {
	case e.encoded:
		var err error
		if data.Payload, err = base64.StdEncoding.DecodeString(e.text); err != nil {
			return notEvent("data_base64 is not base64")
		}
	case isJSONType(media):
	case e.isText:
		data.Payload = []byte(e.text)
	default:
		return notEvent("data must be text, or data_base64, where datacontenttype is not JSON")
	}
	decode := dataDecoder(media, charset)
	if decode == nil {
		return nil
	}
	if err := decode(&data); err != nil {
		return device.Errorf(device.CodeOf(err), "in the data of the CloudEvent: %s", device.PublicMessage(err))
	}
	event.Measurements, event.CreatedAt = data.Measurements, data.CreatedAt
	return nil
}

func isJSONType(media string) bool {
	_, subtype, _ := strings.Cut(media, "/")
	return subtype == "json" || strings.HasSuffix(subtype, "+json")
}
