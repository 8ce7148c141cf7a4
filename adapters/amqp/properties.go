package amqp

import (
	"encoding/hex"
	"fmt"
	"strconv"
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

// properties keeps what a message says beside its payload, as text: application
// properties under their names (of an event those that are no attributes), its
// own properties that have no place elsewhere, and its annotations.
func properties(in *wire.Message, event bool) map[string]string {
	var out map[string]string
	put := func(name, value string) {
		if out == nil {
			out = make(map[string]string, len(in.Properties)+len(in.Annotations)+2)
		}
		out[name] = value
	}
	for _, p := range in.Properties {
		if key, ok := p.Key.(string); ok && !(event && isEventProperty(key)) {
			put(key, valueText(p.Value))
		}
	}
	for _, p := range in.Annotations {
		if key, ok := p.Key.(wire.Symbol); ok {
			put(annotationPrefix+string(key), valueText(p.Value))
		}
	}
	own := func(name, value string) {
		if value != "" {
			put(ownPrefix+name, value)
		}
	}
	own("user-id", valueText(in.UserID))
	own("subject", in.Subject)
	own("reply-to", in.ReplyTo)
	own("correlation-id", idText(in.CorrelationID))
	own("content-encoding", string(in.ContentEncoding))
	own("group-id", in.GroupID)
	own("reply-to-group-id", in.ReplyToGroupID)
	if in.AbsoluteExpiryTime.Set {
		own("absolute-expiry-time", valueText(in.AbsoluteExpiryTime.Value))
	}
	if in.GroupSequence.Set {
		own("group-sequence", strconv.FormatUint(uint64(in.GroupSequence.Value), 10))
	}
	return out
}

// idText gives a message id as text; a binary one in hexadecimal.
func idText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return hex.EncodeToString(v)
	}
	return valueText(v)
}

func valueText(v any) string {
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
	case wire.Char:
		return string(rune(v))
	case wire.Decimal:
		return hex.EncodeToString(v)
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32)
	}
	return fmt.Sprint(v) // strings, symbols, numbers, booleans, UUIDs
}
