package device

import (
	"strings"
	"time"
)

// Publication is a message on a topic: one of the tenant's own topics, or
// telemetry as a subscriber of topics sees it. It is not changed once published:
// many subscribers share one.
type Publication struct {
	Tenant        string
	Topic         string
	Sender        SessionKey // who published it
	Mark          string     // the same when one message is published again, after an outcome nobody learned; "" when it never is
	QoS           int        // 0, 1 or 2
	Retain        bool       // it is to be, or was, the topic's retained message
	Payload       []byte
	Text          bool // the payload is said to be UTF-8 text
	ContentType   string
	ResponseTopic string
	Correlation   string // any bytes
	Properties    []Property
	Expires       time.Time // zero: never
	At            time.Time // our clock, when it arrived
	Kept          uint64    // where it stands among retained messages, if it was made one before it was published; else 0
}

// Property is one user property; names may repeat, and order is kept.
type Property struct{ Name, Value string }

// Limits of topics, in bytes and levels. They keep a NATS subject made of one,
// every byte escaped, below its own limit.
const (
	MaxTopicBytes  = 512
	MaxTopicLevels = 32
)

// Size is what a publication counts against limits in bytes.
func (p *Publication) Size() int {
	n := len(p.Topic) + len(p.Payload) + len(p.ContentType) + len(p.ResponseTopic) + len(p.Correlation) + 128
	for _, x := range p.Properties {
		n += len(x.Name) + len(x.Value) + 8
	}
	return n
}

// Expired reports whether the publication is of no use to anybody at now.
func (p *Publication) Expired(now time.Time) bool {
	return !p.Expires.IsZero() && !now.Before(p.Expires)
}

// Validate checks names and bounds (not the payload's size, which is configured).
func (p *Publication) Validate() error {
	if err := ValidateTopic(p.Topic); err != nil {
		return err
	}
	if len(p.Properties) > MaxProperties {
		return Errorf(Invalid, "message has %d user properties, the limit is %d", len(p.Properties), MaxProperties)
	}
	if n := p.Size() - len(p.Payload); n > MaxPropertyBytes {
		return Errorf(Invalid, "topic and properties hold %d bytes, the limit is %d", n, MaxPropertyBytes)
	}
	return nil
}

// ValidateTopic checks a topic somebody publishes to.
func ValidateTopic(topic string) error {
	if strings.ContainsAny(topic, "+#") {
		return Errorf(Invalid, "topic contains one of + #, which filters use")
	}
	return validTopic("topic", topic)
}

func validTopic(what, topic string) error {
	switch n := strings.Count(topic, "/") + 1; {
	case topic == "":
		return Errorf(Invalid, "%s is empty", what)
	case len(topic) > MaxTopicBytes:
		return Errorf(Invalid, "%s is %d bytes long, the limit is %d", what, len(topic), MaxTopicBytes)
	case n > MaxTopicLevels:
		return Errorf(Invalid, "%s has %d levels, the limit is %d", what, n, MaxTopicLevels)
	case topic[0] == '$':
		return Errorf(Forbidden, "%s starts with $, which is reserved: nothing is published there", what)
	}
	return validText(what, topic)
}

// Subscription is one filter somebody subscribed to, and how.
type Subscription struct {
	Filter            string // MQTT's: + for one level, # for the rest; $share/NAME/FILTER for a share
	QoS               int    // the highest it wants
	NoLocal           bool   // not what the same session published
	RetainAsPublished bool   // show Retain as it was published
	Retained          RetainedPolicy
	ID                uint32 // subscription identifier, 0 for none
}

// RetainedPolicy says when a subscription gets retained messages (MQTT 5, 3.8.3.1).
type RetainedPolicy uint8

// The policies, in the numbers of MQTT.
const (
	RetainedAlways RetainedPolicy = 0
	RetainedIfNew  RetainedPolicy = 1
	RetainedNever  RetainedPolicy = 2
)

// Share takes a shared subscription apart.
func (s *Subscription) Share() (name, filter string, shared bool) {
	rest, shared := strings.CutPrefix(s.Filter, "$share/")
	if !shared {
		return "", s.Filter, false
	}
	name, filter, _ = strings.Cut(rest, "/")
	return name, filter, true
}

// Group names a shared subscription: the sessions that have it get each message
// once, among them (MQTT 5, 4.8.2). It is comparable.
type Group struct{ Tenant, Name, Filter string }

// Group is the one a shared subscription of a tenant belongs to.
func (s *Subscription) Group(tenant string) (g Group, shared bool) {
	name, filter, shared := s.Share()
	return Group{tenant, name, filter}, shared
}

// Validate checks the filter's form and bounds.
func (s *Subscription) Validate() error {
	name, filter, shared := s.Share()
	if shared {
		if err := validName("share", name, MaxDeviceBytes); err != nil {
			return err
		}
	}
	if err := validTopic("topic filter", filter); err != nil {
		return err
	}
	for level, rest, more := "", filter, true; more; {
		level, rest, more = strings.Cut(rest, "/")
		if len(level) > 1 && strings.ContainsAny(level, "+#") || level == "#" && more {
			return Errorf(Invalid, "a wildcard of the topic filter stands where none may")
		}
	}
	return nil
}

// FilterMatches reports whether a filter, not a shared one, takes a topic
// (MQTT 5, 4.7).
func FilterMatches(filter, topic string) bool {
	if topic != "" && topic[0] == '$' && (filter == "" || filter[0] != '$') {
		return false
	}
	for more := true; more; {
		var want, have string
		var left bool
		want, filter, left = strings.Cut(filter, "/")
		if want == "#" {
			return true
		}
		have, topic, more = strings.Cut(topic, "/")
		switch {
		case want != "+" && want != have:
			return false
		case !more:
			return !left || filter == "#"
		case !left:
			return false
		}
	}
	return false
}

// UseTopic is the one rule of who may publish to and subscribe to which of a
// tenant's own topics; it takes a topic or a filter, not a shared one.
//
//   - A device may use what lies below its own name: {device} and {device}/…
//   - A gateway may use that of every device it may speak for.
//   - An application may use all topics of its tenant, and so may anybody in open mode.
//
// What devices say and are told goes its own way: nobody publishes to or
// subscribes below {device}/commands and {device}/responses by this rule, and
// {device}/telemetry can only be read. The short forms name no topic here.
func (p Principal) UseTopic(filter string) error {
	first, rest, _ := strings.Cut(filter, "/")
	second, _, _ := strings.Cut(rest, "/")
	reserved := first == "telemetry" || first == "commands" || first == "responses"
	if reserved || second == "commands" || second == "responses" {
		return Errorf(Invalid, "topic is not one of the tenant's own: a device subscribes to {device}/commands and answers on {device}/responses/{id}/{status}")
	}
	if p.Kind == KindApplication || p.Open {
		return nil
	}
	if first == "" || first == "+" || first == "#" {
		return Errorf(Forbidden, "%s may use the topics below its own name only: %s/…", p.ID, p.ID.Device)
	}
	_, _, err := p.SpeakFor(first)
	return err
}

// SessionKey names a session that may outlive its connection: the principal
// is part of it, so that a client's name alone steals nothing. It is comparable.
type SessionKey struct {
	Principal ID
	Client    string // MQTT client id
}

// Arrival is a message of a source, as its readers hear of it. Opening it costs;
// whoever does not want it by its topic does not open it.
type Arrival struct {
	Ref
	Tenant string
	Topic  string
	Open   func() (*Publication, error)
}
