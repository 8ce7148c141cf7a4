package normalize

import (
	"time"
	"unicode/utf8"

	"github.com/tributary-iot/tributary/device"
)

// decodeJSON fills m from its payload in one pass over the bytes. On an error
// m is unchanged.
func decodeJSON(m *device.Message) error {
	s, err := scan(m.Payload)
	if err != nil {
		return err
	}
	return walkInto(m, s, s.end)
}

// fill hands the finds of a walk to the message.
func fill(m *device.Message, found []device.Measurement, at time.Time) {
	m.Measurements = found
	if len(found) == 0 {
		m.Measurements = nil
	}
	if m.CreatedAt.IsZero() {
		m.CreatedAt = at
	}
}

// scan begins to read a JSON text, whose bytes must be UTF-8.
func scan(payload []byte) (*scanner, error) {
	if !utf8.Valid(payload) {
		return nil, syntaxError(invalidUTF8At(payload), "not valid UTF-8")
	}
	return &scanner{p: payload}, nil
}

// end fails when more than white space is left.
func (s *scanner) end() error {
	if s.peek(); s.i < len(s.p) {
		return syntaxError(s.i, "more text after the end of the value")
	}
	return nil
}

func (s *scanner) at() int { return s.i }

func (s *scanner) kind() kind {
	switch s.peek() {
	case '{':
		return objectKind
	case '[':
		return arrayKind
	}
	return scalarKind
}

// begin steps over "{" or "[".
func (s *scanner) begin() int {
	s.peek()
	s.i++
	return -1
}

// more steps over a comma, or over the closing bracket.
func (s *scanner) more(_ int, first, object bool) (bool, error) {
	closing := byte(']')
	if object {
		closing = '}'
	}
	switch c := s.peek(); {
	case c == closing:
		s.i++
		return false, nil
	case first:
		return true, nil
	case c == ',':
		s.i++
		return true, nil
	}
	return false, s.unexpected("a comma or " + string(closing))
}
