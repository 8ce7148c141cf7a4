package https

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/normalize"
)

// headerEvent begins the headers that carry an event's attributes in binary
// mode (CloudEvents HTTP binding 1.0.2, section 3.1.3.1), in Go's spelling.
const headerEvent = "Ce-"

// decode reads the measurements of a request's message: of several when it is a
// batch of CloudEvents (section 3.3). Beside an error it answers the message when
// only its payload could not be read.
func decode(h http.Header, m *device.Message) ([]*device.Message, error) {
	if normalize.IsBatch(m.ContentType) {
		messages, err := normalize.Batch(m)
		if err != nil {
			return []*device.Message{m}, err
		}
		return messages, nil
	}
	attributes, err := eventAttributes(h)
	if err == nil && attributes != nil {
		err = normalize.CloudEvent(m, attributes)
	}
	if err != nil {
		return nil, err
	}
	return []*device.Message{m}, normalize.Message(m)
}

// eventAttributes gives the attributes of an event in binary mode, nil when the
// request is none: ce-specversion makes it one.
func eventAttributes(h http.Header) (map[string]string, error) {
	if h.Get(headerEvent+"specversion") == "" {
		return nil, nil
	}
	attributes := map[string]string{}
	for header, values := range h {
		name, ok := strings.CutPrefix(header, headerEvent)
		if !ok {
			continue
		}
		text, err := eventText(strings.Join(values, ", ")) // RFC 9110 section 5.3
		if err != nil {
			return nil, device.Wrap(device.Undecodable, "not a CloudEvent 1.0: header "+header+" is not percent-encoded as it should be", err)
		}
		attributes[strings.ToLower(name)] = text
	}
	return attributes, nil
}

// eventText decodes a header value (section 3.1.3.2): a quoted string, which
// earlier versions wrote, then one round of percent-decoding.
func eventText(value string) (string, error) {
	if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
		var plain strings.Builder
		for i := 1; i < n-1; i++ {
			if value[i] == '\\' && i+1 < n-1 {
				i++
			}
			plain.WriteByte(value[i])
		}
		value = plain.String()
	}
	return url.PathUnescape(value)
}

// store hands the messages of a request to the house and waits for all of them.
// When one is not stored, the device sends them all again: each event has a key.
func (s *Server) store(ctx context.Context, messages []*device.Message) error {
	switch len(messages) {
	case 0:
		return nil
	case 1:
		return s.confirm(ctx, func(done func(error)) error { return s.gate.Submit(messages[0], done) })
	}
	return s.confirm(ctx, func(done func(error)) error {
		var left atomic.Int64
		var failed atomic.Pointer[error]
		left.Store(int64(len(messages)))
		for _, m := range messages {
			err := s.gate.Submit(m, func(err error) {
				if err != nil {
					failed.CompareAndSwap(nil, &err)
				}
				if left.Add(-1) > 0 {
					return
				}
				if first := failed.Load(); first != nil {
					done(*first)
					return
				}
				done(nil)
			})
			if err != nil {
				return err // left never becomes 0
			}
		}
		return nil
	})
}
