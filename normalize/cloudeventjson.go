package normalize

import (
	"maps"

	"github.com/tributary-iot/tributary/device"
)

// MaxBatch bounds the events of one batch.
const MaxBatch = 1000

// envelope is an event in the JSON format, taken apart (JSON event format
// 1.0.2, section 3).
type envelope struct {
	attributes map[string]string
	hasData    bool
	encoded    bool   // data_base64: text holds it
	isText     bool   // data is a JSON string: text holds it
	data       []byte // data as it stands in the payload
	text       string
}

// readEnvelope reads one JSON object.
func readEnvelope(s *scanner) (*envelope, error) {
	if s.kind() != objectKind {
		return nil, notEvent("the payload must be a JSON object")
	}
	e := &envelope{attributes: map[string]string{}}
	s.begin()
	for first := true; ; first = false {
		more, err := s.more(-1, first, true)
		if err != nil || !more {
			return e, err
		}
		key, err := s.key()
		if err == nil {
			err = e.member(s, string(key))
		}
		if err != nil {
			return nil, err
		}
	}
}

// member reads the value of one key.
func (e *envelope) member(s *scanner, key string) error {
	if key == "data" || key == "data_base64" {
		return e.readData(s, key)
	}
	if s.kind() != scalarKind {
		return notEvent("the attribute " + shorten(key) + " must be a string, a boolean or an integer")
	}
	v, err := s.scalar()
	if err != nil {
		return err
	}
	_, repeated := e.attributes[key]
	switch {
	case repeated:
		return notEvent("the attribute " + shorten(key) + " is there twice")
	case v.Kind() == device.KindNone: // null: as if it were not there (section 2.2)
		return nil
	case v.Kind() == device.KindDouble:
		return notEvent("the attribute " + shorten(key) + " is a number, but no integer")
	case len(e.attributes) == device.MaxProperties:
		return device.Errorf(device.Invalid, "the CloudEvent has more than %d attributes", device.MaxProperties)
	}
	e.attributes[key] = v.String()
	return nil
}

// readData reads the data member, in either form.
func (e *envelope) readData(s *scanner, key string) error {
	if e.hasData {
		return notEvent("it has data more than once")
	}
	s.kind() // steps over white space
	from := s.i
	e.encoded = key == "data_base64"
	e.hasData = true
	if s.peek() == '"' {
		text, err := s.text()
		e.isText, e.text = true, string(text)
		e.data = s.p[from:s.i]
		return err
	}
	if e.encoded {
		v, err := s.scalar()
		if err == nil && v.Kind() != device.KindNone {
			err = notEvent("data_base64 must be text")
		}
		e.hasData, e.encoded = false, false
		return err
	}
	w := walk{src: s}
	err := w.skip()
	e.data = s.p[from:s.i]
	return err
}

// IsBatch reports whether a declared content type is a batch of CloudEvents,
// which Batch takes apart.
func IsBatch(contentType string) bool {
	media, _ := mediaType(contentType)
	return media == typeCloudEventBatch
}

// Batch makes one message of each event in m.Payload, a batch in the JSON
// format (section 4 there): copies of m, decoded as Message does, each with its
// own event as payload, byte for byte. All events of a batch are good or the
// batch is refused, as Message would; the error says which event is at fault.
func Batch(m *device.Message) ([]*device.Message, error) {
	s, err := scan(m.Payload)
	if err != nil {
		return nil, err
	}
	if s.kind() != arrayKind {
		return nil, notEvent("a batch must be a JSON array of events")
	}
	var events []*device.Message
	for left := s.begin(); ; {
		more, err := s.more(left, events == nil, false)
		if err != nil {
			return nil, err
		}
		if !more {
			return events, s.end()
		}
		if len(events) == MaxBatch {
			return nil, device.Errorf(device.Invalid, "the batch holds more than %d events; send it in parts", MaxBatch)
		}
		event, err := nextEvent(s, m)
		if err != nil {
			return nil, device.Errorf(device.CodeOf(err), "event %d of the batch: %s", len(events)+1, device.PublicMessage(err))
		}
		events = append(events, event)
	}
}

// nextEvent makes a message of the event that comes next.
func nextEvent(s *scanner, m *device.Message) (*device.Message, error) {
	s.kind() // steps over white space
	from := s.i
	w := walk{src: s}
	if err := w.skip(); err != nil {
		return nil, err
	}
	event := *m
	event.ContentType = typeCloudEvent
	event.Properties = maps.Clone(m.Properties)
	event.Payload = s.p[from:s.i:s.i]
	return &event, Message(&event)
}

// refuseBatch is for protocols that carry one message at a time.
func refuseBatch(*device.Message) error {
	return device.Errorf(device.Undecodable, "a batch of CloudEvents is taken over HTTP only; send each event by itself")
}
