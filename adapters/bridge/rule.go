package bridge

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters/amqp/words"
	"github.com/tributary-iot/tributary/device"
)

// rule reads from a message which device it is of, and which channel:
//
//	template = *( text / "{" reference "}" )
//	reference = field / "annotation:" key / "property:" key / group
//
// A field is one of those below; annotation is a message-annotation, property an
// application property, both by their key. A group is a named one of the pattern,
// (?P<device>…), which is held against the filled-in match template. What a message
// has not is empty text, and so is a group that took no part.
type rule struct {
	match           template
	pattern         *regexp.Regexp // nil: no pattern
	device, channel template
	commands, to    template // of the device's commands
}

// fields are what a template may say of a message.
var fields = map[string]func(in *incoming) string{
	"address":        func(in *incoming) string { return in.address },
	"subject":        func(in *incoming) string { return text(in.properties().Subject) },
	"to":             func(in *incoming) string { return text(in.properties().To) },
	"reply-to":       func(in *incoming) string { return text(in.properties().ReplyTo) },
	"content-type":   func(in *incoming) string { return text(in.properties().ContentType) },
	"group-id":       func(in *incoming) string { return text(in.properties().GroupID) },
	"user-id":        func(in *incoming) string { return words.Text(in.properties().UserID) },
	"message-id":     func(in *incoming) string { return words.ID(in.properties().MessageID) },
	"correlation-id": func(in *incoming) string { return words.ID(in.properties().CorrelationID) },
}

// ofCommands are what a template of a command's address may say.
var ofCommands = []string{"device", "name", "tenant"}

// incoming is a message as it came, and from where.
type incoming struct {
	*amqp.Message
	address string
}

var noProperties amqp.MessageProperties

func (in *incoming) properties() *amqp.MessageProperties {
	if in.Properties == nil {
		return &noProperties
	}
	return in.Properties
}

// badRule says which option of a link is wrong, and how.
type badRule struct{ option, reason string }

func (e *badRule) Error() string { return e.option + ": " + e.reason }

// newRule compiles the templates and the pattern of a link.
func newRule(l *Link) (*rule, *badRule) {
	r := &rule{}
	var groups []string
	if l.Pattern != "" {
		var err error
		if r.pattern, err = regexp.Compile(l.Pattern); err != nil {
			return nil, &badRule{"pattern", fmt.Sprintf("is not a regular expression: %v", err)}
		}
		for _, group := range r.pattern.SubexpNames() {
			if fields[group] != nil {
				return nil, &badRule{"pattern", fmt.Sprintf("has a group %q, which is what a message has: name it otherwise", group)}
			}
			if group != "" {
				groups = append(groups, group)
			}
		}
	}
	channel := l.Channel
	if channel == "" && slices.Contains(groups, "channel") {
		channel = "{channel}"
	}
	if l.Device == "" && len(l.Receive) > 0 {
		return nil, &badRule{"device", "is missing: say which device a message is of, for example '{property:device}'"}
	}
	ofMessage := slices.Sorted(maps.Keys(fields))
	for _, t := range []struct {
		option, text string
		into         *template
		words        []string
		keyed        bool
	}{
		{"match", l.Match, &r.match, ofMessage, true},
		{"device", l.Device, &r.device, append(slices.Clone(ofMessage), groups...), true},
		{"channel", channel, &r.channel, append(slices.Clone(ofMessage), groups...), true},
		{"commands", l.Commands, &r.commands, ofCommands, false},
		{"commands_to", l.CommandsTo, &r.to, ofCommands, false},
	} {
		var err error
		if *t.into, err = parseTemplate(t.text, t.words, t.keyed); err != nil {
			return nil, &badRule{t.option, err.Error()}
		}
	}
	return r, nil
}

// apply answers whose message it is, of which channel.
func (r *rule) apply(in *incoming) (name, channel string, err error) {
	var groups []string
	if r.pattern != nil {
		text := r.match.fill(in.value)
		if len(text) <= maxMatchBytes {
			groups = r.pattern.FindStringSubmatch(text)
		}
		if groups == nil {
			return "", "", device.Errorf(device.NotFound, "%.300q does not match the bridge's pattern", text)
		}
	}
	value := func(reference string) string {
		if groups != nil {
			if i := r.pattern.SubexpIndex(reference); i >= 0 {
				return groups[i]
			}
		}
		return in.value(reference)
	}
	if name = r.device.fill(value); name == "" {
		return "", "", device.Errorf(device.NotFound, "the bridge's rule finds no device in the message")
	}
	return name, r.channel.fill(value), nil
}

// value is what a reference means, "" for what the message has not.
func (in *incoming) value(reference string) string {
	kind, key, keyed := strings.Cut(reference, ":")
	switch {
	case !keyed:
		return fields[reference](in)
	case kind == "property":
		return words.Text(in.ApplicationProperties[key])
	}
	return words.Text(in.Annotations[key])
}

// template is text with references.
type template []piece

type piece struct{ text, reference string } // one of them is ""

// parseTemplate takes a template apart. words are the references there are, and
// keyed says whether annotations and properties are, too.
func parseTemplate(s string, words []string, keyed bool) (template, error) {
	var t template
	for s != "" {
		before, rest, open := strings.Cut(s, "{")
		if strings.Contains(before, "}") {
			return nil, fmt.Errorf("a } without a {")
		}
		if before != "" {
			t = append(t, piece{text: before})
		}
		if !open {
			break
		}
		reference, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, fmt.Errorf("a { without a }")
		}
		kind, key, colon := strings.Cut(reference, ":")
		known := slices.Contains(words, reference)
		if keyed && colon && key != "" && (kind == "annotation" || kind == "property") {
			known = true
		}
		if !known {
			if keyed {
				words = append([]string{"annotation:KEY", "property:KEY"}, words...)
			}
			return nil, fmt.Errorf("there is no {%s}; there are {%s}", reference, strings.Join(words, "}, {"))
		}
		t = append(t, piece{reference: reference})
		s = after
	}
	return t, nil
}

// fill puts values in the references' place.
func (t template) fill(value func(reference string) string) string {
	var b strings.Builder
	for _, p := range t {
		b.WriteString(p.text)
		if p.reference == "" {
			continue
		}
		b.WriteString(value(p.reference))
	}
	return b.String()
}
