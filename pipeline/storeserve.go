package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// Questions to a store travel between nodes as core NATS requests: the asker
// sends its question with a deadline and an inbox; the node that has the store
// sends the answer to the inbox in parts, each of which the asker takes before
// the next is sent, so that a large answer never fills a connection. An asker
// that goes away says so on the inbox's cancel subject.
const (
	storeQueryRoot  = "store-query"
	storePartBytes  = 256 << 10
	maxStoreAnswer  = 64 << 20
	maxStoreQueries = 32 // at a time, on the node that has the store
	storePatience   = 30 * time.Second
)

// storeQuestion is one call of storage.Reader.
type storeQuestion struct {
	Op    string        `json:"op"`
	Left  time.Duration `json:"left"` // of the asker's deadline
	Query any           `json:"query,omitempty"`
}

// storePart is a piece of an answer.
type storePart struct {
	Data []byte `json:"data"`
	Last bool   `json:"last"`
}

// ServeStore answers other nodes' questions to a store, until stop is called.
// barrier waits until the store holds what was in the streams.
func (b *Belt) ServeStore(name string, reader storage.Reader, barrier func(context.Context) error) (stop func(), err error) {
	s := &storeServer{b: b, reader: reader, barrier: barrier, slots: make(chan struct{}, maxStoreQueries)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	sub, err := b.rnc.Subscribe(storeQuerySubject(name), s.take)
	if err != nil {
		return nil, fmt.Errorf("pipeline: answer for store %q: %w", name, err)
	}
	return func() {
		_ = sub.Unsubscribe()
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.cancel()
		s.wg.Wait()
	}, nil
}

func storeQuerySubject(name string) string {
	return string(appendLevel([]byte(storeQueryRoot+"."), name, subjectEscape))
}

type storeServer struct {
	b       *Belt
	reader  storage.Reader
	barrier func(context.Context) error
	slots   chan struct{}
	ctx     context.Context
	cancel  context.CancelFunc
	mu      sync.Mutex
	closed  bool
	wg      sync.WaitGroup
}

func (s *storeServer) take(m *nats.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || m.Reply == "" {
		return
	}
	select {
	case s.slots <- struct{}{}:
	default:
		go s.send(s.ctx, m.Reply, answerOf(storeAnswer{}, device.Errorf(device.Busy, "the store has as many questions as it takes: try again")))
		return
	}
	s.wg.Go(func() {
		defer func() { <-s.slots }()
		s.answer(m)
	})
}

func (s *storeServer) answer(m *nats.Msg) {
	var q struct {
		storeQuestion
		Query json.RawMessage `json:"query"`
	}
	if err := json.Unmarshal(m.Data, &q); err != nil {
		s.send(s.ctx, m.Reply, answerOf(storeAnswer{}, device.Errorf(device.Invalid, "the question is not understood: do all nodes run the same release?")))
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, min(max(q.Left, 0), 10*storePatience))
	defer cancel()
	gone, err := s.b.rnc.Subscribe(m.Reply+".cancel", func(*nats.Msg) { cancel() })
	if err != nil {
		return
	}
	defer func() { _ = gone.Unsubscribe() }()
	found, err := s.ask(ctx, q.Op, q.Query)
	s.send(ctx, m.Reply, answerOf(found, err))
}

// send gives the answer in parts; who does not take one gets no more.
func (s *storeServer) send(ctx context.Context, inbox string, answer []byte) {
	ctx, cancel := context.WithTimeout(ctx, 10*storePatience)
	defer cancel()
	for {
		n := min(len(answer), storePartBytes)
		part, err := json.Marshal(storePart{Data: answer[:n], Last: n == len(answer)})
		if err != nil {
			return
		}
		answer = answer[n:]
		if _, err := s.b.rnc.RequestWithContext(ctx, inbox, part); err != nil || len(answer) == 0 {
			return
		}
	}
}

// ask puts the question to the store.
func (s *storeServer) ask(ctx context.Context, op string, raw json.RawMessage) (storeAnswer, error) {
	switch op {
	case "barrier":
		return storeAnswer{}, s.barrier(ctx)
	case "messages":
		return asked(raw, func(q storage.MessageQuery) (storeAnswer, error) {
			p, err := s.reader.Messages(ctx, q)
			return packMessages(p), err
		})
	case "after":
		return asked(raw, func(q storage.AfterQuery) (storeAnswer, error) {
			m, err := s.reader.After(ctx, q)
			return packMessages(storage.MessagePage{Messages: m}), err
		})
	case "points":
		return asked(raw, func(q storage.PointQuery) (storeAnswer, error) {
			p, err := s.reader.Points(ctx, q)
			return packPoints(p), err
		})
	case "buckets":
		return asked(raw, func(q storage.BucketQuery) (storeAnswer, error) {
			b, err := s.reader.Buckets(ctx, q)
			return packBuckets(b), err
		})
	case "latest":
		return asked(raw, func(q storage.LatestQuery) (storeAnswer, error) {
			v, err := s.reader.Latest(ctx, q)
			return packLatest(v), err
		})
	case "command":
		return asked(raw, func(q commandName) (storeAnswer, error) {
			r, err := s.reader.Command(ctx, q.Tenant, q.Device, q.ID)
			return packCommands([]device.CommandRecord{r}, ""), err
		})
	case "commands":
		return asked(raw, func(q storage.CommandQuery) (storeAnswer, error) {
			p, err := s.reader.Commands(ctx, q)
			return packCommands(p.Records, p.Next), err
		})
	case "events":
		return asked(raw, func(q storage.EventQuery) (storeAnswer, error) {
			e, err := s.reader.Events(ctx, q)
			return packEvents(e), err
		})
	}
	return storeAnswer{}, device.Errorf(device.Invalid, "the question %q is not understood: do all nodes run the same release?", op)
}

type commandName struct{ Tenant, Device, ID string }

func asked[Q any](raw json.RawMessage, ask func(Q) (storeAnswer, error)) (storeAnswer, error) {
	var q Q
	if err := json.Unmarshal(raw, &q); err != nil {
		return storeAnswer{}, device.Wrap(device.Invalid, "the question is not understood: do all nodes run the same release?", err)
	}
	return ask(q)
}
