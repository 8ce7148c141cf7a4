package mqtt

import (
	"strconv"
	"strings"

	"github.com/tributary-iot/tributary/device"
)

// kind is what a topic is for.
type kind uint8

const (
	telemetry kind = iota + 1
	response
	order // an application's command
	own   // one of the tenant's own topics
)

// address is a topic a device publishes to, in our words.
type address struct {
	kind    kind
	device  string // "" for a short form
	channel string // of telemetry
	command string // id, of a response
	status  int    // of a response; 0 when the topic names none
}

// parseTopic reads {device}/telemetry[/{channel}], {device}/responses/{id}
// [/{status}] and their short forms, each with or without a leading "/", and
// {device}/commands. Every other topic is one of the tenant's own.
func parseTopic(topic string) (address, error) {
	rest := strings.TrimPrefix(topic, "/")
	name, tail, more := strings.Cut(rest, "/")
	a := address{}
	if name != "telemetry" && name != "responses" {
		a.device = name
		name, tail, more = strings.Cut(tail, "/")
	}
	switch {
	case strings.HasPrefix(rest, "/"): // an empty level names no device
	case name == "commands" && a.device != "" && rest == topic:
		if !more {
			a.kind = order
			return a, nil
		}
		return a, wrapTopic(device.Errorf(device.Invalid, "topic %q is not one to publish to: a command is sent to {device}/commands", cut(topic)))
	case name == "telemetry":
		a.kind, a.channel = telemetry, tail
		return a, wrapTopic(device.ValidateChannel(tail))
	case name == "responses" && more:
		return parseResponse(a, tail)
	}
	return address{kind: own}, nil
}

// errNoTopics is what a topic of the tenant's own is refused with where none are served.
func errNoTopics(topic string) error {
	return wrapTopic(device.Errorf(device.Invalid,
		"topic %q is not one to publish to: use {device}/telemetry[/{channel}] or {device}/responses/{id}/{status}", cut(topic)))
}

func parseResponse(a address, tail string) (address, error) {
	a.kind = response
	id, status, named := strings.Cut(tail, "/")
	a.command = id
	if id == "" {
		return a, wrapTopic(device.Errorf(device.Invalid, "the topic of an answer names no command: use {device}/responses/{id}/{status}"))
	}
	if !named {
		return a, nil
	}
	code, err := parseStatus(status)
	a.status = code
	return a, wrapTopic(err)
}

// parseStatus reads an HTTP-like status.
func parseStatus(s string) (int, error) {
	code, err := strconv.ParseUint(s, 10, 16) // no sign
	if err != nil || code < 100 || code > 599 {
		return 0, device.Errorf(device.Invalid, "status %q of the answer is not an integer from 100 to 599", cut(s))
	}
	return int(code), nil
}

func wrapTopic(err error) error {
	if err == nil {
		return nil
	}
	return &topicError{err}
}

// commandFilter is a subscription to commands, in our words.
type commandFilter struct {
	device string // "" for a short form
	full   bool   // with "/#": the topic shall carry id and name
	base   string // what every topic of it starts with: "", "/", "dev1/" or "/dev1/"
}

// parseFilter reads {device}/commands, {device}/commands/# and their short
// forms, each with or without a leading "/".
func parseFilter(filter string) (commandFilter, error) {
	f := commandFilter{}
	rest := strings.TrimSuffix(filter, "/#")
	f.full = rest != filter
	base, ok := strings.CutSuffix(rest, "commands")
	f.base = base
	f.device = strings.TrimSuffix(strings.TrimPrefix(base, "/"), "/")
	short := base == "" || base == "/"
	long := f.device != "" && strings.HasSuffix(base, "/") && !strings.ContainsAny(f.device, "/+#")
	if !ok || !short && !long {
		return f, device.Errorf(device.Invalid, "filter %q is not one to subscribe to: use {device}/commands or {device}/commands/#", cut(filter))
	}
	return f, nil
}

// topic is where a command arrives on the subscription.
func (f commandFilter) topic(c *device.Command) string {
	if !f.full {
		return f.base + "commands"
	}
	return f.base + "commands/" + c.ID + "/" + c.Name
}

// responseTopic is where a MQTT 5 device answers.
func (f commandFilter) responseTopic(c *device.Command) string {
	return f.base + "responses/" + c.ID
}

// cut bounds what of a peer's text is repeated in a message.
func cut(s string) string { return cutTo(s, 100) }

func cutTo(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
