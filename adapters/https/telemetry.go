package https

import (
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tributary-iot/tributary/device"
)

const (
	headerKey      = "Idempotency-Key"
	headerCreated  = "Tributary-Created-At"
	headerProperty = "Tributary-Property-"

	maxContentTypeBytes = 256
)

// postTelemetry keeps one message: 204 means stored as durably as configured.
func (s *Server) postTelemetry(c *call) (int, error) {
	body, err := readBody(c.r, s.cfg.MaxMessageBytes)
	if err != nil {
		if isTooLarge(err) {
			s.leaveTrail(c, c.device, body, err, nil)
		}
		return 0, err
	}
	received := time.Now()
	messages, err := s.messages(c, body, received)
	if err != nil {
		var unread *device.Message
		if len(messages) > 0 {
			unread = messages[0]
		}
		s.leaveTrail(c, c.device, body, err, unread)
		return 0, err
	}
	c.bodyRead()
	if err := s.store(c.r.Context(), messages); err != nil {
		s.leaveTrail(c, c.device, body, err, nil)
		return 0, err
	}
	s.metrics.acked(received)
	return c.done()
}

// messages makes the words of a request, one message unless it is a batch of
// CloudEvents; identity comes from its credential. Beside an error it answers the
// message of which only the payload could not be read.
func (s *Server) messages(c *call, body []byte, received time.Time) ([]*device.Message, error) {
	m := &device.Message{
		Tenant:      c.device.Tenant,
		Device:      c.device.Device,
		Via:         c.via,
		Channel:     c.route.channel,
		Protocol:    device.HTTP,
		QoS:         1,
		ContentType: declaredType(c.r.Header),
		ReceivedAt:  received,
		Payload:     body,
	}
	if err := readHeaders(c.r.Header, m); err != nil {
		return nil, err
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	messages, err := decode(c.r.Header, m)
	if err != nil {
		return messages, err
	}
	for _, m := range messages {
		if len(m.Measurements) == 0 {
			s.metrics.unread.Inc()
		}
	}
	return messages, nil
}

// declaredType is the Content-Type, but not the one curl invents.
func declaredType(h http.Header) string {
	declared := h.Get("Content-Type")
	if strings.HasPrefix(declared, "application/x-www-form-urlencoded") {
		return ""
	}
	return declared
}

// readHeaders fills key, device clock and properties.
func readHeaders(h http.Header, m *device.Message) error {
	if len(m.ContentType) > maxContentTypeBytes || !utf8.ValidString(m.ContentType) {
		return device.Errorf(device.Invalid, "Content-Type is not UTF-8 or longer than %d bytes", maxContentTypeBytes)
	}
	if m.Key = unquote(h.Get(headerKey)); !utf8.ValidString(m.Key) {
		return device.Errorf(device.Invalid, "%s is not UTF-8", headerKey)
	}
	if err := readClock(h, m); err != nil {
		return err
	}
	for name, values := range h {
		if len(name) <= len(headerProperty) || name[:len(headerProperty)] != headerProperty {
			continue
		}
		value := strings.Join(values, ", ") // RFC 9110 section 5.3
		if !utf8.ValidString(value) {
			return device.Errorf(device.Invalid, "header %s is not UTF-8", name)
		}
		if m.Properties == nil {
			m.Properties = map[string]string{}
		}
		m.Properties[strings.ToLower(name[len(headerProperty):])] = value
	}
	return nil
}

// readClock takes the device's clock from its own header, which must be right,
// or from Date, which is left alone where it cannot be: HTTP stacks write it.
func readClock(h http.Header, m *device.Message) error {
	if text := h.Get(headerCreated); text != "" {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil || at.Year() < 1970 || at.Year() > 2200 {
			return device.Errorf(device.Invalid, "%s must be a time like 2026-01-31T12:00:00.5Z", headerCreated)
		}
		m.CreatedAt = at.UTC()
		return nil
	}
	if text := h.Get("Date"); text != "" {
		if at, err := http.ParseTime(text); err == nil && at.Year() >= 2000 {
			m.CreatedAt = at.UTC()
		}
	}
	return nil
}

// unquote takes the quotes off a structured-field string.
func unquote(key string) string {
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		return key[1 : n-1]
	}
	return key
}
