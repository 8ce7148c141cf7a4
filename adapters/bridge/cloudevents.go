package bridge

import (
	"encoding/base64"
	"strings"
)

// What begins the application properties that carry an event's attributes in
// binary mode (CloudEvents AMQP binding 1.0.2, section 3.1.3.1; the underscore
// is for peers whose names may not hold a colon).
var eventPrefixes = [...]string{"cloudEvents:", "cloudEvents_"}

func eventAttribute(key string) (name string, ok bool) {
	for _, prefix := range eventPrefixes {
		if name, ok = strings.CutPrefix(key, prefix); ok {
			return name, true
		}
	}
	return "", false
}

// eventAttributes gives the attributes of an event in binary mode as text; nil when
// the message is no event: the attribute specversion makes it one.
func eventAttributes(properties map[string]any) map[string]string {
	attributes := map[string]string{}
	for key, value := range properties {
		name, ok := eventAttribute(key)
		if !ok {
			continue
		}
		if raw, binary := value.([]byte); binary {
			attributes[name] = base64.StdEncoding.EncodeToString(raw)
		} else {
			attributes[name] = valueText(value)
		}
	}
	if attributes["specversion"] == "" {
		return nil
	}
	return attributes
}
