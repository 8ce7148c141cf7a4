package bridge

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// What begins the names of properties that are no application properties, as at
// the AMQP door: the message's own, and its annotations.
const (
	ownPrefix        = "amqp."
	annotationPrefix = ownPrefix + "annotation."
)

// keep answers what a message says beside its payload, as text and under the names
// the AMQP door gives: application properties (of an event those that are no
// attributes), its own properties that have no place elsewhere, its annotations.
func (in *incoming) keep(event bool) map[string]string {
	out := make(map[string]string, len(in.ApplicationProperties)+len(in.Annotations)+2)
	for key, value := range in.ApplicationProperties {
		if _, attribute := eventAttribute(key); !event || !attribute {
			out[key] = valueText(value)
		}
	}
	for key, value := range in.Annotations {
		if name, ok := key.(string); ok {
			out[annotationPrefix+name] = valueText(value)
		}
	}
	own := func(name, value string) {
		if value != "" {
			out[ownPrefix+name] = value
		}
	}
	p := in.properties()
	own("user-id", valueText(p.UserID))
	own("subject", text(p.Subject))
	own("reply-to", text(p.ReplyTo))
	own("correlation-id", idText(p.CorrelationID))
	own("content-encoding", text(p.ContentEncoding))
	own("group-id", text(p.GroupID))
	own("reply-to-group-id", text(p.ReplyToGroupID))
	if p.AbsoluteExpiryTime != nil {
		own("absolute-expiry-time", valueText(*p.AbsoluteExpiryTime))
	}
	if p.GroupSequence != nil {
		own("group-sequence", strconv.FormatUint(uint64(*p.GroupSequence), 10))
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// idText gives a message id as the AMQP door does: a binary one in hexadecimal.
func idText(v any) string {
	if raw, binary := v.([]byte); binary {
		return hex.EncodeToString(raw)
	}
	return valueText(v)
}

func valueText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []byte:
		if utf8.Valid(v) {
			return string(v)
		}
		return hex.EncodeToString(v)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32)
	}
	return fmt.Sprint(v) // symbols, numbers, booleans, UUIDs
}
