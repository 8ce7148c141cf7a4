package pipeline

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/storage"
)

// storeAnswer is what a store answered, for another node. The items are in the
// wire form of the streams; what has none of its own rides in a message.
type storeAnswer struct {
	Refused bool        `json:"refused,omitempty"`
	Code    device.Code `json:"code,omitempty"`
	Error   string      `json:"error,omitempty"`
	Next    string      `json:"next,omitempty"`
	Items   []storeItem `json:"items,omitempty"`
}

type storeItem struct {
	Body     []byte          `json:"body"`
	Position device.Position `json:"position,omitzero"`
	StoredAt time.Time       `json:"stored_at,omitzero"`
	Events   [][]byte        `json:"events,omitempty"`
}

// answerOf is the bytes of an answer, or of why there is none.
func answerOf(a storeAnswer, err error) []byte {
	if err != nil {
		a = storeAnswer{Refused: true, Code: device.CodeOf(err), Error: device.PublicMessage(err)}
	}
	raw, merr := json.Marshal(a)
	if merr == nil && len(raw) > maxStoreAnswer {
		a = storeAnswer{Refused: true, Code: device.TooLarge, Error: "the answer is too large to travel between nodes: ask for less at a time, or ask the node that has the store"}
		raw, merr = json.Marshal(a)
	}
	if merr != nil {
		return []byte(`{"refused":true,"error":"internal error"}`)
	}
	return raw
}

func packMessages(p storage.MessagePage) storeAnswer {
	a := storeAnswer{Next: p.Next}
	for i := range p.Messages {
		m := &p.Messages[i]
		a.Items = append(a.Items, storeItem{Body: devicepb.MarshalMessage(&m.Message), Position: m.Position, StoredAt: m.StoredAt})
	}
	return a
}

func (a storeAnswer) messages() (p storage.MessagePage, err error) {
	p.Next = a.Next
	for _, it := range a.Items {
		m, err := devicepb.UnmarshalMessage(it.Body)
		if err != nil {
			return p, err
		}
		p.Messages = append(p.Messages, device.Stored{Message: *m, Position: it.Position, StoredAt: it.StoredAt})
	}
	return p, nil
}

func packPoints(points []storage.Point) storeAnswer {
	m := device.Message{Tenant: "t", Device: "d"}
	for _, p := range points {
		m.Measurements = append(m.Measurements, device.Measurement{Time: p.Time, Value: p.Value})
	}
	return storeAnswer{Items: []storeItem{{Body: devicepb.MarshalMessage(&m)}}}
}

func (a storeAnswer) points() (points []storage.Point, err error) {
	for _, it := range a.Items {
		m, err := devicepb.UnmarshalMessage(it.Body)
		if err != nil {
			return nil, err
		}
		for _, x := range m.Measurements {
			points = append(points, storage.Point{Time: x.Time, Value: x.Value})
		}
	}
	return points, nil
}

// packBuckets gives each bucket as measurements, which may be NaN or infinite
// as JSON's numbers may not.
func packBuckets(buckets []storage.Bucket) (a storeAnswer) {
	for _, b := range buckets {
		number := func(v device.Value) device.Measurement { return device.Measurement{Time: b.Start, Value: v} }
		m := device.Message{Tenant: "t", Device: "d", Measurements: []device.Measurement{
			{Time: b.First.Time, Value: b.First.Value}, {Time: b.Last.Time, Value: b.Last.Value},
			number(device.Int(b.Count)), number(device.Int(b.Numbers)),
			number(device.Double(b.Min)), number(device.Double(b.Max)), number(device.Double(b.Sum)),
		}}
		a.Items = append(a.Items, storeItem{Body: devicepb.MarshalMessage(&m)})
	}
	return a
}

func (a storeAnswer) buckets() (buckets []storage.Bucket, err error) {
	for _, it := range a.Items {
		m, err := devicepb.UnmarshalMessage(it.Body)
		if err != nil {
			return nil, err
		}
		if len(m.Measurements) != 7 {
			return nil, errors.New("a bucket of another release")
		}
		x := m.Measurements
		buckets = append(buckets, storage.Bucket{Start: x[2].Time, Count: x[2].Value.Int(),
			First: storage.Point{Time: x[0].Time, Value: x[0].Value}, Last: storage.Point{Time: x[1].Time, Value: x[1].Value},
			Numbers: x[3].Value.Int(), Min: x[4].Value.Double(), Max: x[5].Value.Double(), Sum: x[6].Value.Double()})
	}
	return buckets, nil
}

func packLatest(values []storage.LatestValue) (a storeAnswer) {
	for _, v := range values {
		m := device.Message{Tenant: "t", Device: v.Device, Channel: v.Channel, Measurements: []device.Measurement{v.Measurement}}
		a.Items = append(a.Items, storeItem{Body: devicepb.MarshalMessage(&m), Position: v.Position})
	}
	return a
}

func (a storeAnswer) latest() (values []storage.LatestValue, err error) {
	for _, it := range a.Items {
		m, err := devicepb.UnmarshalMessage(it.Body)
		if err != nil {
			return nil, err
		}
		for _, x := range m.Measurements {
			values = append(values, storage.LatestValue{Device: m.Device, Channel: m.Channel, Measurement: x, Position: it.Position})
		}
	}
	return values, nil
}

func packCommands(records []device.CommandRecord, next string) storeAnswer {
	a := storeAnswer{Next: next}
	for i := range records {
		it := storeItem{Body: devicepb.MarshalCommand(&records[i].Command)}
		for j := range records[i].Events {
			it.Events = append(it.Events, devicepb.MarshalCommandEvent(&records[i].Events[j]))
		}
		a.Items = append(a.Items, it)
	}
	return a
}

func (a storeAnswer) commands() (p storage.CommandPage, err error) {
	p.Next = a.Next
	for _, it := range a.Items {
		c, err := devicepb.UnmarshalCommand(it.Body)
		if err != nil {
			return p, err
		}
		r := device.CommandRecord{Command: *c}
		for _, raw := range it.Events {
			e, err := devicepb.UnmarshalCommandEvent(raw)
			if err != nil {
				return p, err
			}
			r.Events = append(r.Events, *e)
		}
		p.Records = append(p.Records, r)
	}
	return p, nil
}

func packEvents(events []device.StoredEvent) (a storeAnswer) {
	for i := range events {
		e := &events[i]
		it := storeItem{Position: e.Position, StoredAt: e.StoredAt, Events: [][]byte{devicepb.MarshalCommandEvent(&e.CommandEvent)}}
		if e.Request != nil {
			it.Body = devicepb.MarshalCommand(e.Request)
		}
		a.Items = append(a.Items, it)
	}
	return a
}

func (a storeAnswer) events() (events []device.StoredEvent, err error) {
	for _, it := range a.Items {
		ev := device.StoredEvent{Position: it.Position, StoredAt: it.StoredAt}
		for _, raw := range it.Events {
			e, err := devicepb.UnmarshalCommandEvent(raw)
			if err != nil {
				return nil, err
			}
			ev.CommandEvent = *e
		}
		if len(it.Body) > 0 {
			if ev.Request, err = devicepb.UnmarshalCommand(it.Body); err != nil {
				return nil, err
			}
		}
		events = append(events, ev)
	}
	return events, nil
}
