package topic

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/topic/topictest"
)

const patience = 20 * time.Second

func serve(t testing.TB, cfg Config) (*Service, *topictest.Log) {
	t.Helper()
	log := &topictest.Log{}
	return serveOn(t, cfg, log), log
}

func serveOn(t testing.TB, cfg Config, log Log) *Service {
	t.Helper()
	s, err := New(cfg, log, (&topictest.Records{}).Node("n"), &topictest.Commands{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// reader is a session that keeps what it is offered.
type reader struct {
	adapters.Member
	mu   sync.Mutex
	got  []device.TopicDelivery
	more chan struct{}
}

func join(t testing.TB, s *Service, client string) *reader {
	t.Helper()
	r := &reader{more: make(chan struct{}, 1)}
	m, _, err := s.Join(t.Context(), adapters.Joining{
		Key:   device.SessionKey{Principal: device.ID{Tenant: "default", Device: client}, Client: client},
		Clean: true,
		Offer: r.take,
		Room:  func(context.Context) error { return nil },
		State: func() device.SessionState { return device.SessionState{} },
		End:   func(device.Leaving) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Member = m
	t.Cleanup(func() { m.Leave(0, true) })
	return r
}

func (r *reader) take(d device.TopicDelivery) {
	r.mu.Lock()
	r.got = append(r.got, d)
	r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
}

func (r *reader) subscribe(t testing.TB, filter string, qos int) {
	t.Helper()
	replay, err := r.Subscribe(t.Context(), device.Subscription{Filter: filter, QoS: qos})
	if err != nil {
		t.Fatal(err)
	}
	replay()
}

// wait waits until n were offered, and answers their payloads.
func (r *reader) wait(t testing.TB, n int) (all []string) {
	t.Helper()
	for limit := time.After(patience); ; {
		r.mu.Lock()
		if len(r.got) >= n {
			for _, d := range r.got {
				all = append(all, string(d.Payload))
			}
			r.mu.Unlock()
			return all
		}
		r.mu.Unlock()
		select {
		case <-r.more:
		case <-limit:
			t.Fatalf("%d of %d were offered", len(r.got), n)
		}
	}
}

func text(topic string, qos int, payload string) *device.Publication {
	return &device.Publication{Tenant: "default", Topic: topic, QoS: qos, Payload: []byte(payload)}
}

func publish(t testing.TB, s *Service, p *device.Publication) {
	t.Helper()
	if p.Retain {
		retain(t, s, p)
	}
	publishOnly(t, s, p)
}

func retain(t testing.TB, s *Service, p *device.Publication) {
	t.Helper()
	done := make(chan error, 1)
	if err := s.Retain(p, func(kept uint64, err error) { p.Kept = kept; done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func publishOnly(t testing.TB, s *Service, p *device.Publication) {
	t.Helper()
	done := make(chan error, 1)
	if err := s.Publish(p, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestInOrderAtAnyPace: however its credit comes, a session gets every message
// once and in order, from the feed, its queue and the stream in turns.
func TestInOrderAtAnyPace(t *testing.T) {
	s, log := serve(t, Config{QueueMessages: 5, Readers: 2})
	const sessions, messages = 8, 3000
	var readers []*reader
	for i := range sessions {
		r := join(t, s, fmt.Sprint("r", i))
		r.subscribe(t, "a/+", 1)
		r.subscribe(t, "a/b", 2)
		readers = append(readers, r)
	}
	var work sync.WaitGroup
	for i, r := range readers {
		work.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			for given := 0; given < messages; {
				n := min(1+rnd.IntN(1+20*i), messages-given)
				r.Request(n)
				if given += n; rnd.IntN(3) == 0 {
					r.wait(t, given/2)
				}
			}
		})
	}
	want := make([]string, messages)
	for i := range messages {
		want[i] = fmt.Sprint(i)
		if i%3 == 0 {
			log.Put(device.SourceTopics, text("elsewhere", 1, "no"))
		}
		log.Put(device.SourceTopics, text("a/b", 1+i%2, want[i]))
	}
	work.Wait()
	for i, r := range readers {
		if got := r.wait(t, messages); !slices.Equal(got, want) {
			t.Errorf("session %d: %d messages, not those that were published", i, len(got))
		}
	}
	if log.Reads() == 0 {
		t.Error("no session was read for alone")
	}
}

// TestOldMessagesAreNotNew: what was stored before a subscription is not of it.
func TestOldMessagesAreNotNew(t *testing.T) {
	s, log := serve(t, Config{})
	first := join(t, s, "first")
	first.Request(1)
	first.subscribe(t, "#", 1) // the feed runs, and waits
	log.Put(device.SourceTopics, text("t", 1, "old"))
	r := join(t, s, "r")
	r.Request(10)
	r.subscribe(t, "t", 1)
	log.Put(device.SourceTopics, text("t", 1, "new"))
	if got := r.wait(t, 1); got[0] != "new" {
		t.Errorf("got %q", got)
	}
}

// TestTelemetryBesideTopics: a filter takes telemetry and the tenant's own
// topics alike, each from its stream, and tenants hear nothing of one another.
func TestTelemetryBesideTopics(t *testing.T) {
	s, log := serve(t, Config{})
	r := join(t, s, "r")
	r.Request(10)
	r.subscribe(t, "+/+/#", 1)
	other := text("d/telemetry/x", 1, "other")
	other.Tenant = "other"
	log.Put(device.SourceTelemetry, other)
	publish(t, s, &device.Publication{Tenant: "other", Topic: "a/b", Payload: []byte("other")})
	log.Put(device.SourceTelemetry, text("d/telemetry/x", 1, "1"))
	publish(t, s, text("a/b", 0, "2"))
	publish(t, s, text("a/b", 1, "3"))
	got := r.wait(t, 3)
	slices.Sort(got)
	if !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("got %q", got)
	}
}

// TestExpiredIsNotDelivered: nobody gets what is of no use any more (3.3.2.3.3).
func TestExpiredIsNotDelivered(t *testing.T) {
	s, _ := serve(t, Config{})
	r := join(t, s, "r")
	r.Request(10)
	r.subscribe(t, "t", 1)
	late := text("t", 1, "late")
	late.Expires = time.Now().Add(-time.Second)
	publish(t, s, late)
	publish(t, s, text("t", 1, "in time"))
	if got := r.wait(t, 1); got[0] != "in time" {
		t.Errorf("got %q", got)
	}
}

// TestRetained: the last message of a topic, for wildcard filters too; replaced,
// cleared, expired (3.3.1.3).
func TestRetained(t *testing.T) {
	s, _ := serve(t, Config{})
	keep := func(topic string, qos int, payload string, expires time.Time) {
		p := text(topic, qos, payload)
		p.Retain, p.Expires = true, expires
		publish(t, s, p)
	}
	keep("a/b", 1, "1", time.Time{})
	keep("a/b", 0, "2", time.Time{})
	keep("a", 2, "3", time.Now().Add(time.Hour))
	keep("a/c", 1, "4", time.Time{})
	keep("a/c", 1, "", time.Time{})
	keep("a/d", 1, "5", time.Now().Add(-time.Second))
	publish(t, s, text("a/e", 1, "6"))
	r := join(t, s, "r")
	r.Request(10)
	r.subscribe(t, "a/#", 1)
	got := r.wait(t, 2)
	slices.Sort(got)
	if !slices.Equal(got, []string{"2", "3"}) || !r.got[0].Retained {
		t.Errorf("got %q", got)
	}
	for policy, want := range map[device.RetainedPolicy]int{device.RetainedNever: 2, device.RetainedIfNew: 2, device.RetainedAlways: 4} {
		replay, err := r.Subscribe(t.Context(), device.Subscription{Filter: "a/#", QoS: 1, Retained: policy})
		if err != nil {
			t.Fatal(err)
		}
		if policy == device.RetainedAlways {
			replay()
			r.wait(t, want)
		} else if replay(); len(r.wait(t, 2)) > 4 {
			t.Errorf("policy %d replayed", policy)
		}
	}
	if n := len(r.wait(t, 4)); n != 4 {
		t.Errorf("%d were offered", n)
	}
}

// TestOneSessionPerKey: the newer one stays.
func TestOneSessionPerKey(t *testing.T) {
	s, _ := serve(t, Config{})
	ended := make(chan device.Leaving, 1)
	key := device.SessionKey{Client: "c"}
	old, _, err := s.Join(t.Context(), adapters.Joining{Key: key, End: func(why device.Leaving) { ended <- why }})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if why := <-ended; why != device.LeftTakenOver {
			t.Errorf("ended: %s", why)
		}
		old.Leave(0, false)
	}()
	newer, _, err := s.Join(t.Context(), adapters.Joining{Key: key, End: func(device.Leaving) { t.Error("the newer one was ended") }})
	if err != nil {
		t.Fatal(err)
	}
	newer.Leave(0, false)
	if _, err := newer.Subscribe(t.Context(), device.Subscription{Filter: "a"}); device.CodeOf(err) != device.Unavailable {
		t.Errorf("subscribing after the end: %v", err)
	}
}

// FuzzTree: the tree finds the subscriptions whose filter takes the topic, and
// holds nothing when they are gone.
func FuzzTree(f *testing.F) {
	f.Add("a/b", "a/+", "#", "a/b/#")
	f.Add("/", "+/+", "/+", "/#")
	f.Add("a//b", "a/+/b", "a//#", "+")
	f.Fuzz(func(t *testing.T, topic, one, two, three string) {
		if device.ValidateTopic(topic) != nil {
			return
		}
		var tr tree
		subs := map[*subscription]bool{}
		for _, filter := range []string{one, two, three, one} {
			s := &subscription{Subscription: device.Subscription{Filter: filter}}
			if _, _, shared := s.Share(); shared || s.Validate() != nil {
				continue
			}
			tr.put(s, nil)
			subs[s] = true
		}
		found := map[*subscription]bool{}
		for _, s := range tr.match(topic, nil) {
			if found[s] {
				t.Fatalf("%q found twice", s.Filter)
			}
			found[s] = true
		}
		for s := range subs {
			if found[s] != device.FilterMatches(s.Filter, topic) {
				t.Fatalf("filter %q, topic %q: found %v", s.Filter, topic, found[s])
			}
		}
		for s := range subs {
			tr.remove(s)
		}
		if !tr.root.empty() {
			t.Fatal("the tree is not empty")
		}
	})
}

// TestAPlaceOfAnotherTenant, as a record names one that counts places otherwise, is read by
// nobody.
func TestAPlaceOfAnotherTenant(t *testing.T) {
	s, log := serve(t, Config{})
	theirs := text("t", 1, "secret")
	theirs.Tenant = "other"
	mine, other := log.Put(device.SourceTopics, text("t", 1, "mine")), log.Put(device.SourceTopics, theirs)
	r := join(t, s, "r")
	if p, err := r.Read(t.Context(), device.Ref{Source: device.SourceTopics, Seq: mine}); err != nil || string(p.Payload) != "mine" {
		t.Errorf("its own: %+v, %v", p, err)
	}
	if p, err := r.Read(t.Context(), device.Ref{Source: device.SourceTopics, Seq: other}); device.CodeOf(err) != device.NotFound {
		t.Errorf("another's: %+v, %v", p, err)
	}
}
