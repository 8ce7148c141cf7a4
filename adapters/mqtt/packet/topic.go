package packet

import "strings"

// CheckTopic applies the rules for a topic name (4.7): not empty, no wildcard.
// UTF-8 is the codec's own check.
func CheckTopic[S ~string | ~[]byte](topic S) *Error {
	if len(topic) == 0 {
		return violation(TopicNameInvalid, "topic name is empty")
	}
	for i := range len(topic) {
		if c := topic[i]; c == '+' || c == '#' {
			return violation(TopicNameInvalid, "topic name contains the wildcard %q", c)
		}
	}
	return nil
}

// CheckFilter applies the rules for a topic filter (4.7.1): not empty, "+"
// alone in its level, "#" alone in the last one. On MQTT 5 a shared
// subscription must be well formed too (4.8.2).
func CheckFilter(filter string, v Version) *Error {
	if filter == "" {
		return violation(TopicFilterInvalid, "topic filter is empty")
	}
	if v >= V5 && IsShared(filter) {
		name, rest, ok := strings.Cut(filter[len("$share/"):], "/")
		if !ok || name == "" || strings.ContainsAny(name, "+#") || rest == "" {
			return violation(TopicFilterInvalid, "shared subscription is not of the form $share/NAME/FILTER")
		}
		filter = rest
	}
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if strings.ContainsAny(level, "+#") && len(level) > 1 {
			return violation(TopicFilterInvalid, "a wildcard in the topic filter does not stand alone in its level")
		}
		if level == "#" && more {
			return violation(TopicFilterInvalid, "the wildcard # is not in the last level of the topic filter")
		}
	}
	return nil
}

// IsShared reports whether a filter asks for a shared subscription (4.8.2).
func IsShared(filter string) bool { return strings.HasPrefix(filter, "$share/") }
