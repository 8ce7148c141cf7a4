// Package words is what an AMQP 1.0 message says beside its payload, as the text that
// is kept with it: one mapping for the door and for the bridge.
package words

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
)

// What begins the names of properties that are no application properties: the
// message's own (part 3, section 2.4), and its annotations (section 2.3).
const (
	ownPrefix        = "amqp."
	annotationPrefix = ownPrefix + "annotation."
)

// Properties keeps what a message says beside its payload: application properties
// under their names (of an event those that are no attributes), its own properties
// that have no place elsewhere, and its annotations. nil when there is nothing.
func Properties(in *wire.Message, event bool) map[string]string {
	var out map[string]string
	put := func(name, value string) {
		if out == nil {
			out = make(map[string]string, len(in.Properties)+len(in.Annotations)+2)
		}
		out[name] = value
	}
	for _, p := range in.Properties {
		if key, ok := p.Key.(string); ok && !(event && isEventProperty(key)) {
			put(key, Text(p.Value))
		}
	}
	for _, p := range in.Annotations {
		if key, ok := p.Key.(wire.Symbol); ok {
			put(annotationPrefix+string(key), Text(p.Value))
		}
	}
	own := func(name, value string) {
		if value != "" {
			put(ownPrefix+name, value)
		}
	}
	own("user-id", Text(in.UserID))
	own("subject", in.Subject)
	own("reply-to", in.ReplyTo)
	own("correlation-id", ID(in.CorrelationID))
	own("content-encoding", string(in.ContentEncoding))
	own("group-id", in.GroupID)
	own("reply-to-group-id", in.ReplyToGroupID)
	if in.AbsoluteExpiryTime.Set {
		own("absolute-expiry-time", Text(in.AbsoluteExpiryTime.Value))
	}
	if in.GroupSequence.Set {
		own("group-sequence", strconv.FormatUint(uint64(in.GroupSequence.Value), 10))
	}
	return out
}

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

// EventAttributes gives the attributes of an event in binary mode as text (the
// canonical one of the type system); nil when the message is no event: the
// attribute specversion makes it one.
func EventAttributes(properties wire.Map) map[string]string {
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
			attributes[name] = Text(p.Value)
		}
	}
	if attributes["specversion"] == "" {
		return nil
	}
	return attributes
}

// ID gives a message id or correlation id as text; a binary one in hexadecimal.
func ID(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return hex.EncodeToString(v)
	}
	return Text(v)
}

// Text gives a simple value as text: of our codec's types, or of a client library's.
func Text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []byte:
		if utf8.Valid(v) {
			return string(v)
		}
		return hex.EncodeToString(v)
	case wire.Timestamp:
		if t := v.Time(); !t.IsZero() {
			return t.Format(time.RFC3339Nano)
		}
		return strconv.FormatInt(int64(v), 10)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case wire.Char:
		return string(rune(v))
	case wire.Decimal:
		return hex.EncodeToString(v)
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32)
	}
	return fmt.Sprint(v) // strings, symbols, numbers, booleans, UUIDs
}
