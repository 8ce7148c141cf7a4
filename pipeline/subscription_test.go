package pipeline

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// appReader is an application's reader in a test.
type appReader struct {
	adapters.Feed
	mu   sync.Mutex
	got  []adapters.Telemetry
	lost error
}

func (r *appReader) all() []adapters.Telemetry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]adapters.Telemetry{}, r.got...)
}

// payloads is what came, in order.
func (r *appReader) payloads() string {
	var all []string
	for _, m := range r.all() {
		all = append(all, string(m.Payload))
	}
	return strings.Join(all, " ")
}

// accept settles all that came.
func (r *appReader) accept() {
	for _, m := range r.all() {
		m.Settle(device.Accepted)
	}
}

func subscribe(t testing.TB, b *Belt, q adapters.Subscription, credit int) *appReader {
	t.Helper()
	return subscribeWith(t, b, newMemStore(t), q, credit)
}

func subscribeWith(t testing.TB, b *Belt, store storage.Reader, q adapters.Subscription, credit int) *appReader {
	t.Helper()
	r := &appReader{}
	f, err := b.Subscribe(t.Context(), store, q, func(m adapters.Telemetry) {
		r.mu.Lock()
		r.got = append(r.got, m)
		r.mu.Unlock()
	}, func(err error) {
		r.mu.Lock()
		r.lost = err
		r.mu.Unlock()
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Feed = f
	t.Cleanup(func() { f.Detach("the test is over") })
	if credit > 0 {
		f.Request(credit)
	}
	return r
}

func (r *appReader) want(t testing.TB, payloads string) {
	t.Helper()
	n := len(strings.Fields(payloads))
	eventually(t, fmt.Sprintf("%d messages", n), func() bool { return len(r.all()) >= n })
	if got := r.payloads(); got != payloads {
		t.Errorf("got %q, want %q", got, payloads)
	}
}

// say submits one message and waits until it is stored.
func say(t testing.TB, b *Belt, tenant, dev, channel, payload string) {
	t.Helper()
	done := make(chan error, 1)
	m := &device.Message{Tenant: tenant, Device: dev, Channel: channel, Payload: []byte(payload), Protocol: device.AMQP, ReceivedAt: time.Now()}
	if err := b.Submit(m, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestSubscribeFrom(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Relaxed})
	for _, p := range []string{"1", "2"} {
		say(t, b, "default", "d", "", p)
	}
	all := subscribe(t, b, adapters.Subscription{Tenant: "default", First: true}, 10)
	all.want(t, "1 2")
	now := subscribe(t, b, adapters.Subscription{Tenant: "default"}, 10)
	say(t, b, "default", "d", "", "3")
	now.want(t, "3")
	all.want(t, "1 2 3")
	first := all.all()[0]
	if first.Device != "d" || first.Attempt != 1 || first.Token == "" || first.Gap != nil || first.StoredAt.IsZero() {
		t.Errorf("the first is %+v", first)
	}
	subscribe(t, b, adapters.Subscription{Tenant: "default", After: first.Token}, 10).want(t, "2 3")
	subscribe(t, b, adapters.Subscription{Tenant: "default", Since: all.all()[2].StoredAt}, 10).want(t, "3")

	// What was not asked for does not come, and comes when it is.
	one := subscribe(t, b, adapters.Subscription{Tenant: "default", First: true}, 1)
	one.want(t, "1")
	one.Request(5)
	one.want(t, "1 2 3")
}

func TestSubscriptionsReadOneTenantAndWhatTheyAskFor(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Relaxed})
	for _, m := range [][3]string{
		{"default", "a", ""}, {"default", "a", "room"}, {"default", "a", "room/1"}, {"default", "b", "room"}, {"default", "ab", "room"},
		{"other", "a", "room"}, {"other", "b", ""}, {"de", "a", "room"},
	} {
		say(t, b, m[0], m[1], m[2], m[0]+"/"+m[1]+"/"+m[2])
	}
	for want, q := range map[string]adapters.Subscription{
		"default/a/ default/a/room default/a/room/1 default/b/room default/ab/room": {},
		"default/a/ default/a/room default/a/room/1":                                {Device: "a"},
		"default/a/room default/b/room default/ab/room":                             {Channel: "room"},
		"default/a/room default/a/room/1 default/b/room default/ab/room":            {Channel: "room", Below: true},
		"default/a/room/1": {Device: "a", Channel: "room/1"},
	} {
		q.Tenant, q.First = "default", true
		subscribe(t, b, q, 100).want(t, want)
	}
	// A name is its tenant's.
	one := subscribe(t, b, adapters.Subscription{Tenant: "default", Name: "n", Keep: time.Hour, First: true, Device: "b"}, 10)
	two := subscribe(t, b, adapters.Subscription{Tenant: "other", Name: "n", Keep: time.Hour, First: true, Device: "b"}, 10)
	one.want(t, "default/b/room")
	two.want(t, "other/b/")
	_, err := b.Subscribe(t.Context(), nil, adapters.Subscription{Tenant: "default", Name: "n", Keep: time.Hour, Device: "c"}, nil, nil)
	if device.CodeOf(err) != device.Conflict {
		t.Errorf("a name that reads something else: %v", err)
	}
}

func TestReadersShareASubscription(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Relaxed})
	q := adapters.Subscription{Tenant: "default", Name: "shared", Keep: time.Hour}
	one, two := subscribe(t, b, q, 4), subscribe(t, b, q, 4)
	for i := range 8 {
		say(t, b, "default", "d", "", fmt.Sprint(i))
	}
	eventually(t, "eight messages", func() bool { return len(one.all())+len(two.all()) == 8 })
	if len(one.all()) != 4 || len(two.all()) != 4 {
		t.Errorf("shared as %q and %q", one.payloads(), two.payloads())
	}
	// What one has and leaves unsettled is the other's, as a repeat.
	two.accept()
	two.Request(4)
	one.Detach("gone")
	eventually(t, "what the first left", func() bool { return len(two.all()) == 8 })
	for _, m := range two.all()[4:] {
		if m.Attempt != 2 {
			t.Errorf("%s is attempt %d", m.Payload, m.Attempt)
		}
	}
	// Released comes again, rejected does not.
	last := two.all()[4:]
	last[0].Settle(device.Released)
	last[1].Settle(device.Rejected)
	last[2].Settle(device.Accepted)
	last[3].Settle(device.Unconfirmed)
	two.Request(1)
	eventually(t, "what was released", func() bool { return len(two.all()) == 9 })
	if m := two.all()[8]; string(m.Payload) != string(last[0].Payload) || m.Attempt != 3 {
		t.Errorf("%s comes as attempt %d", m.Payload, m.Attempt)
	}
	two.all()[8].Settle(device.Accepted)
	two.Detach("gone")

	// The position outlives its readers, and where to begin counts only once.
	say(t, b, "default", "d", "", "later")
	q.First = true
	three := subscribe(t, b, q, 10)
	three.want(t, "later")
}

// Readers on two nodes share a subscription, too.
func TestReadersOfTwoNodesShare(t *testing.T) {
	server := startEmbedded(t, t.TempDir(), Relaxed)
	here, there := openOn(t, Options{Server: server, Durability: Relaxed}), openOn(t, Options{Server: server, Durability: Relaxed})
	q := adapters.Subscription{Tenant: "default", Name: "shared", Keep: time.Hour}
	one, two := subscribe(t, here, q, 2), subscribe(t, there, q, 2)
	for i := range 4 {
		say(t, here, "default", "d", "", fmt.Sprint(i))
	}
	eventually(t, "four messages", func() bool { return len(one.all())+len(two.all()) == 4 })
	one.accept()
	two.accept()
	two.Detach("gone")
	one.Request(1)
	say(t, there, "default", "d", "", "last")
	eventually(t, "the fifth", func() bool { return len(one.all()) == 3 })
	if got := string(one.all()[2].Payload); got != "last" {
		t.Errorf("got %s", got)
	}
}

func TestRecalledRequestsAreNotMet(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Relaxed})
	r := subscribe(t, b, adapters.Subscription{Tenant: "default", First: true}, 0)
	r.Request(1000)
	r.Recall()
	// What was under way may be met; no more than that.
	for i := range pullMost + 50 {
		say(t, b, "default", "d", "", fmt.Sprint(i))
	}
	other := subscribe(t, b, adapters.Subscription{Tenant: "default", First: true}, 2*pullMost)
	eventually(t, "another reader has all", func() bool { return len(other.all()) == pullMost+50 })
	if n := len(r.all()); n > pullMost {
		t.Errorf("%d messages came after the requests were recalled", n)
	}
}

func TestSubscriptionTellsOfAGap(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Relaxed, Registerer: prometheus.NewRegistry()})
	q := adapters.Subscription{Tenant: "default", Name: "slow", Keep: time.Hour, First: true}
	say(t, b, "default", "d", "", "0")
	r := subscribe(t, b, q, 10)
	r.want(t, "0")
	r.accept()
	stream, err := b.js.Stream(t.Context(), TelemetryStream)
	if err != nil {
		t.Fatal(err)
	}
	info := func() *jetstream.ConsumerInfo {
		c, err := stream.Consumer(t.Context(), subscriptionConsumer("default", "slow"))
		if err != nil {
			t.Fatal(err)
		}
		return c.CachedInfo()
	}
	eventually(t, "the outcome has arrived", func() bool { return info().AckFloor.Stream == 1 })
	r.Detach("gone") // notes it
	eventually(t, "the position is noted", func() bool { return info().Config.Metadata[metaFloor] == "1" })
	for i := range 5 {
		say(t, b, "default", "d", "", fmt.Sprint(i+1))
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(5)); err != nil {
		t.Fatal(err)
	}
	r = subscribe(t, b, q, 0)
	eventually(t, "the gap is seen", func() bool { return testutil.ToFloat64(b.metrics.missed) == 1 })
	r.Request(10)
	r.want(t, "4 5")
	first := r.all()[0]
	if first.Gap == nil || first.Gap.Before != first.Token || r.all()[1].Gap != nil {
		t.Errorf("told %+v, then %+v", first.Gap, r.all()[1].Gap)
	}
	if _, err := b.Subscribe(t.Context(), nil, adapters.Subscription{Tenant: "default", Name: "new", Keep: time.Hour, After: first.Gap.After}, nil, nil); device.CodeOf(err) != device.Precondition {
		t.Errorf("beginning before the stream: %v", err)
	}
	if _, err := b.Subscribe(t.Context(), nil, adapters.Subscription{Tenant: "default", Name: "new", Keep: time.Hour, Since: time.Now().Add(-time.Hour)}, nil, nil); device.CodeOf(err) != device.Precondition {
		t.Errorf("beginning at a time before the stream: %v", err)
	}
}

// A reader that wants nothing for longer than the subscription is kept without one
// is a reader, and misses nothing.
func TestPausedReaderKeepsItsSubscription(t *testing.T) {
	t.Parallel()
	b := inside(t, t.TempDir(), Options{Durability: Relaxed})
	const keep = 2 * time.Second
	r := subscribe(t, b, adapters.Subscription{Tenant: "default", Name: "paused", Keep: keep}, 0)
	say(t, b, "default", "d", "", "1")
	for begin := time.Now(); time.Since(begin) < 3*keep; {
		if _, err := b.js.Consumer(t.Context(), TelemetryStream, subscriptionConsumer("default", "paused")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // between two looks
	}
	if len(r.all()) != 0 {
		t.Error("messages came that nobody asked for")
	}
	r.Request(1)
	r.want(t, "1")
	if first := r.all()[0]; first.Attempt != 1 {
		t.Errorf("it came as attempt %d", first.Attempt)
	}
	// Without a reader it ends.
	r.accept()
	r.Detach("gone")
	eventually(t, "the end of the subscription", func() bool {
		_, err := b.js.Consumer(t.Context(), TelemetryStream, subscriptionConsumer("default", "paused"))
		return errors.Is(err, jetstream.ErrConsumerNotFound)
	})
}

func TestTooManySubscriptions(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Relaxed})
	stream, err := b.js.Stream(t.Context(), TelemetryStream)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxSubscriptions {
		if _, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: subscriptionConsumer("full", fmt.Sprint(i)), MemoryStorage: true}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Subscribe(t.Context(), nil, adapters.Subscription{Tenant: "full", Name: "more", Keep: time.Hour}, nil, nil); device.CodeOf(err) != device.Busy {
		t.Errorf("one above the limit: %v", err)
	}
	subscribe(t, b, adapters.Subscription{Tenant: "roomy", Name: "more", Keep: time.Hour}, 0)
	if _, err := b.Subscribe(t.Context(), nil, adapters.Subscription{Tenant: "roomy", Name: strings.Repeat("n", 300)}, nil, nil); device.CodeOf(err) != device.Invalid {
		t.Errorf("a long name: %v", err)
	}
}

// A reader whose consumer is removed is told.
func TestSubscriptionIsLost(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Relaxed})
	r := subscribe(t, b, adapters.Subscription{Tenant: "default", Name: "n", Keep: time.Hour}, 1)
	if err := b.js.DeleteConsumer(t.Context(), TelemetryStream, subscriptionConsumer("default", "n")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the reader is told", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return device.CodeOf(r.lost) == device.Unavailable
	})
}
