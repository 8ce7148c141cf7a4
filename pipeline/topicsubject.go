package pipeline

import (
	"strings"

	"github.com/tributary-iot/tributary/device"
)

// topicEnd closes the subject of a topic, so that the filter a/#, which takes
// the topic a as well, is one NATS subject too: topic.<tenant>.a.> matches
// topic.<tenant>.a.! and topic.<tenant>.a.b.!
const topicEnd = ".!"

// topicSubject is where a topic's messages go below a root.
func topicSubject(root, tenant, topic string) string {
	b := appendLevel([]byte(root+"."), tenant, subjectEscape)
	for level := range strings.SplitSeq(topic, "/") {
		b = appendLevel(append(b, '.'), level, subjectEscape)
	}
	return string(append(b, topicEnd...))
}

// topicFilter is the subjects of the topics a filter takes.
func topicFilter(root, tenant, filter string) string {
	b := appendLevel([]byte(root+"."), tenant, subjectEscape)
	for level := range strings.SplitSeq(filter, "/") {
		switch b = append(b, '.'); level {
		case "#":
			return string(append(b, '>'))
		case "+":
			b = append(b, '*')
		default:
			b = appendLevel(b, level, subjectEscape)
		}
	}
	return string(append(b, topicEnd...))
}

// parseTopicSubject is the reverse of topicSubject.
func parseTopicSubject(root, subject string) (tenant, topic string, err error) {
	rest, ok := strings.CutPrefix(subject, root+".")
	rest, closed := strings.CutSuffix(rest, topicEnd)
	if !ok || !closed {
		return "", "", errSubject
	}
	levels := strings.Split(rest, ".")
	for i, level := range levels {
		if levels[i], err = unescape(level, subjectEscape); err != nil {
			return "", "", err
		}
	}
	tenant, topic = levels[0], strings.Join(levels[1:], "/")
	if len(levels) < 2 || topicSubject(root, tenant, topic) != subject {
		return "", "", errSubject
	}
	return tenant, topic, nil
}

// telemetryTopic is the topic on which a channel's messages are seen.
func telemetryTopic(devicename, channel string) string {
	if channel == "" {
		return devicename + "/telemetry"
	}
	return devicename + "/telemetry/" + channel
}

// telemetryTopicFilter is the subjects of telemetry a filter on topics takes:
// none, one, or two, for a subject and everything below it.
func telemetryTopicFilter(tenant, filter string) []string {
	levels := strings.Split(filter, "/")
	b := appendLevel([]byte(telemetryRoot+"."), tenant, subjectEscape)
	for i, level := range levels {
		switch {
		case level == "#" && i < 2:
			if i == 1 {
				return []string{string(b), string(b) + everything}
			}
			return []string{string(b) + everything}
		case level == "#":
			return []string{string(b), string(b) + everything}
		case i == 1 && level != "+" && level != "telemetry":
			return nil
		case i == 1:
		case level == "+":
			b = append(b, ".*"...)
		default:
			b = appendLevel(append(b, '.'), level, subjectEscape)
		}
	}
	if len(levels) < 2 {
		return nil
	}
	return []string{string(b)}
}

// sourceFilters is the subjects of a source that the filters take, no two of
// them with a message in common, as the server wants it: all of the tenant's
// when there are many, or some overlap.
func sourceFilters(src device.Source, tenant string, filters []string) []string {
	var all []string
	for _, f := range filters {
		if src == device.SourceTelemetry {
			all = append(all, telemetryTopicFilter(tenant, f)...)
		} else {
			all = append(all, topicFilter(topicRoot, tenant, f))
		}
	}
	whole := topicRoot + "."
	if src == device.SourceTelemetry {
		whole = telemetryRoot + "."
	}
	if len(all) > maxSourceFilters || overlap(all) {
		return []string{string(appendLevel([]byte(whole), tenant, subjectEscape)) + everything}
	}
	return all
}

// maxSourceFilters bounds the subjects one reader names.
const maxSourceFilters = 8

func overlap(filters []string) bool {
	for i, a := range filters {
		for _, b := range filters[:i] {
			if meet(a, b) {
				return true
			}
		}
	}
	return false
}

// meet reports whether a subject could match both filters.
func meet(a, b string) bool {
	for {
		one, restA, moreA := strings.Cut(a, ".")
		two, restB, moreB := strings.Cut(b, ".")
		switch {
		case one == ">" || two == ">":
			return true
		case one != two && one != "*" && two != "*":
			return false
		case !moreA || !moreB:
			return moreA == moreB
		}
		a, b = restA, restB
	}
}

// sessionSubject is where the record of a session stands.
func sessionSubject(k device.SessionKey) string {
	b := appendDevice([]byte(sessionRoot), k.Principal)
	return string(appendLevel(append(b, '.'), k.Client, subjectEscape))
}

// parseSessionSubject is the reverse of sessionSubject.
func parseSessionSubject(subject string) (k device.SessionKey, err error) {
	levels := strings.Split(subject, ".")
	if len(levels) != 4 {
		return k, errSubject
	}
	for i, level := range levels {
		if levels[i], err = unescape(level, subjectEscape); err != nil {
			return k, err
		}
	}
	k = device.SessionKey{Principal: device.ID{Tenant: levels[1], Device: levels[2]}, Client: levels[3]}
	if sessionSubject(k) != subject {
		return device.SessionKey{}, errSubject
	}
	return k, nil
}

// sessionAskSubject is where a node is asked to let go of a session.
func sessionAskSubject(incarnation string) string {
	return string(appendLevel([]byte(sessionAskRoot+"."), incarnation, subjectEscape))
}
