package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// Sessions keeps the records of sessions that outlive their connection, and of
// wills, in SESSIONS: the last message of a session's subject.
type Sessions struct {
	b    *Belt
	node *Node
}

// Sessions answers the records of sessions, as node sees them.
func (b *Belt) Sessions(node *Node) *Sessions { return &Sessions{b, node} }

// recordGrace is how long after its end a record is kept at least, for somebody
// to see that it has ended, and to publish its will.
const recordGrace = 2 * time.Minute

// Incarnation is this life of this node, as records name it; an error says that
// it may not act now.
func (s *Sessions) Incarnation() (string, error) { return s.node.Acting() }

// Lives reports whether an incarnation that a record names has not ended.
func (s *Sessions) Lives(incarnation string) bool { return s.node.Lives(incarnation) }

// Elder reports whether this node does what one has to do for all.
func (s *Sessions) Elder() bool { return s.node.Elder() }

// Load answers a session's record and its revision; nil when there is none.
func (s *Sessions) Load(ctx context.Context, key device.SessionKey) (*device.SessionRecord, uint64, error) {
	m, err := s.b.leaderGet(ctx, SessionStream, map[string]any{"last_by_subj": sessionSubject(key)})
	switch {
	case err != nil:
		return nil, 0, device.Wrap(device.Unavailable, "the session cannot be read now", err)
	case len(m.Data) == 0:
		return nil, m.Seq, nil
	}
	r, err := devicepb.UnmarshalSession(m.Data)
	if err != nil || r.Key != key {
		return nil, m.Seq, nil // not one of ours: as good as none, and replaced
	}
	return r, m.Seq, nil
}

// Save writes a record durably if the one before has revision rev (0: there is
// none), and answers its own: an error of code Conflict says that somebody else
// was first, one of code Busy that there are too many sessions.
func (s *Sessions) Save(ctx context.Context, r *device.SessionRecord, rev uint64) (uint64, error) {
	var header nats.Header
	if r.Node == "" && r.Expiry != device.Forever {
		header = lifetime(max(time.Until(r.Left.Add(r.Expiry)), 0) + recordGrace)
	}
	return s.put(ctx, r.Key, devicepb.MarshalSession(r), header, rev)
}

// Remove takes a record away, as Save would replace it.
func (s *Sessions) Remove(ctx context.Context, key device.SessionKey, rev uint64) error {
	_, err := s.put(ctx, key, nil, lifetime(clearedFor), rev)
	return err
}

func (s *Sessions) put(ctx context.Context, key device.SessionKey, body []byte, header nats.Header, rev uint64) (uint64, error) {
	it := item{subject: sessionSubject(key), body: body, header: header, cas: true, lastSeq: rev}
	seq, err := s.b.sessions.publishWait(ctx, it)
	switch {
	case errors.Is(err, ErrWrongLastSequence):
		return 0, device.Wrap(device.Conflict, "the session was changed by somebody else", err)
	case err != nil || seq != 0:
		return seq, err
	}
	m, err := s.b.leaderGet(ctx, SessionStream, map[string]any{"last_by_subj": it.subject}) // stored, and only where is not known
	return m.Seq, err
}

// Follow calls fn with every record there is and every change of one, in order,
// until ctx ends; ready once it has told what there was at first. A record that
// was taken away is told as nil with its key.
func (s *Sessions) Follow(ctx context.Context, ready func(), fn func(device.SessionKey, *device.SessionRecord)) error {
	stream, err := s.b.rjs.Stream(ctx, SessionStream)
	if err != nil {
		return fmt.Errorf("pipeline: follow sessions: %w", err)
	}
	last, told := stream.CachedInfo().State.LastSeq, false
	at := func(seq uint64, pending uint64) {
		if !told && (seq >= last || pending == 0) {
			told = true
			ready()
		}
	}
	if stream.CachedInfo().State.Msgs == 0 {
		at(last, 0)
	}
	return s.b.read(ctx, SessionStream, 1, nil, func(r raw) error {
		if key, err := parseSessionSubject(r.subject); err == nil {
			rec, err := devicepb.UnmarshalSession(r.body)
			if len(r.body) == 0 || err != nil || rec.Key != key {
				rec = nil
			}
			fn(key, rec)
		}
		at(r.seq, r.pending)
		return nil
	})
}

// Ask has the node that holds a session end it there, and returns when it has
// written what it knew of it. An error means that nobody answered in time.
func (s *Sessions) Ask(ctx context.Context, incarnation string, key device.SessionKey) error {
	body := devicepb.MarshalSession(&device.SessionRecord{Key: key})
	_, err := s.b.nc.RequestWithContext(ctx, sessionAskSubject(incarnation), body)
	if err != nil {
		return device.Wrap(device.Unavailable, "the node that holds the session does not answer", err)
	}
	return nil
}

// Answer calls fn with the key of every session this node is asked for, each
// in a goroutine of its own, until stop: the asker is answered when it returns.
func (s *Sessions) Answer(fn func(device.SessionKey)) (stop func(), err error) {
	// Of this node's lives only the present one is asked, and lives change.
	sub, err := s.b.rnc.Subscribe(sessionAskRoot+".*", func(m *nats.Msg) {
		r, err := devicepb.UnmarshalSession(m.Data)
		if err != nil || m.Subject != sessionAskSubject(s.node.Info().Incarnation) {
			return
		}
		go func() {
			fn(r.Key)
			_ = m.Respond(nil)
		}()
	})
	if err == nil {
		err = s.b.rnc.FlushTimeout(readTimeout)
	}
	if err != nil {
		return nil, fmt.Errorf("pipeline: answer for sessions: %w", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}
