package mqtt

import "github.com/tributary-iot/tributary/normalize"

// eventAttributes takes the attributes of a CloudEvent in binary mode out of
// the user properties, where they stand under their own names (CloudEvents MQTT
// binding 1.0.2, section 3.1.3.1). It answers nil when the message is no event:
// it is one when all required attributes are there (section 3).
func eventAttributes(properties map[string]string) map[string]string {
	for _, required := range [...]string{"specversion", "id", "source", "type"} {
		if properties[required] == "" {
			return nil
		}
	}
	attributes := map[string]string{}
	for name, value := range properties {
		if normalize.IsAttribute(name) {
			attributes[name] = value
			delete(properties, name)
		}
	}
	return attributes
}
