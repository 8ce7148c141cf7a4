package amqp

import (
	"encoding/base64"
	"strings"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
)

// What begins the application properties that carry an event's attributes in
// binary mode (CloudEvents AMQP binding 1.0.2, section 3.1.3.1; the underscore
// is for peers whose names may not hold a colon).
var eventPrefixes = [...]string{"cloudEvents:", "cloudEvents_"}

func isEventProperty(key string) bool { _, ok := eventAttribute(key); return ok }

func eventAttribute(key string) (name string, ok bool) {
	for _, prefix := range eventPrefixes {
		if name, ok = strings.CutPrefix(key, prefix); ok {
			return name, true
		}
	}
	return "", false
}

// eventAttributes gives the attributes of an event in binary mode as text (the
// canonical one of the type system); nil when the message is no event: the
// attribute specversion makes it one.
func eventAttributes(properties wire.Map) map[string]string {
	var attributes map[string]string
	for _, p := range properties {
		key, _ := p.Key.(string)
		name, ok := eventAttribute(key)
		if !ok {
			continue
		}
		if attributes == nil {
			attributes = map[string]string{}
		}
		if raw, binary := p.Value.([]byte); binary {
			attributes[name] = base64.StdEncoding.EncodeToString(raw)
		} else {
			attributes[name] = valueText(p.Value)
		}
	}
	if attributes["specversion"] == "" {
		return nil
	}
	return attributes
}
