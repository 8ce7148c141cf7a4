package mqtt

import (
	"context"
	"reflect"
	"testing"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// reading is a member whose messages are kept.
type reading struct{ adapters.Member }

func (reading) Read(context.Context, device.Ref) (*device.Publication, error) {
	return &device.Publication{Topic: "a"}, nil
}

func (reading) Request(int) {}

// TestCutWhileItGoesOn: a connection that is lost before the client was sent again what
// it had not finished leaves that to the next one, as it was.
func TestCutWhileItGoesOn(t *testing.T) {
	was := []device.Outgoing{
		{ID: 1, QoS: 1, Ref: device.Ref{Source: device.SourceTopics, Seq: 1}}, {ID: 2, QoS: 2, Ref: device.Ref{Source: device.SourceTopics, Seq: 2}},
		{ID: 3, QoS: 2, Released: true, Ref: device.Ref{Source: device.SourceTopics, Seq: 3}}, {QoS: 2, Ref: device.Ref{Source: device.SourceTopics, Seq: 4}},
	}
	for name, cut := range map[string]func(*session){
		"lost": func(s *session) { s.broken = true }, "ended": func(s *session) { s.sealed = true },
	} {
		s := newSession(&Server{}, nil)
		s.peerWindow = 10
		s.topics = &subscriber{s: s, member: reading{}}
		s.topics.restore(&device.SessionState{Outgoing: was})
		cut(s)
		for _, o := range []uint16{1, 2, 3} {
			if err := s.topics.sendAgain(t.Context(), s.sent[o]); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.topics.sendFirst(t.Context(), was[3]); err != nil {
			t.Fatal(err)
		}
		st := s.topics.state()
		last := len(st.Outgoing) - 1
		if st.Outgoing[last].ID = 0; !reflect.DeepEqual(st.Outgoing, was) { // an identifier that was not used yet
			t.Errorf("%s: it is to go on with %+v", name, st.Outgoing)
		}
	}
}
