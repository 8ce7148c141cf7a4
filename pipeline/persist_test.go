package pipeline

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/storage"
)

var quick = PersistOptions{Pace: time.Millisecond, Tend: 10 * time.Millisecond, RetryMin: time.Millisecond, RetryMax: 5 * time.Millisecond}

func persist(t testing.TB, b *Belt, s storage.Store, o PersistOptions) *Persister {
	t.Helper()
	p, err := b.StartPersister(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopWithin(t, p.Close) })
	return p
}

func waitStored(t testing.TB, p *Persister) {
	t.Helper()
	ctx, cancel := contextFor(t, time.Minute)
	defer cancel()
	if err := p.WaitStored(ctx); err != nil {
		t.Fatal(err)
	}
}

// wantOnce checks that messages 0 to n-1 of a device are stored, each once.
func wantOnce(t testing.TB, s *memStore, name string, n int) {
	t.Helper()
	got := s.payloads()
	for i := range n {
		if c := got[fmt.Sprintf(`%s{"n":%d}`, name, i)]; c != 1 {
			t.Fatalf("message %d of %s is stored %d times", i, name, c)
		}
	}
	if len(got) != n {
		t.Fatalf("%d different messages are stored, want %d", len(got), n)
	}
}

func TestEverythingIsStoredOnce(t *testing.T) {
	b, s := inside(t, t.TempDir(), Options{Durability: Relaxed}), newMemStore(t)
	submitAll(t, b, "d", 100) // before there is a persister
	p := persist(t, b, s, quick)
	waitStored(t, p)
	wantOnce(t, s, "d", 100)

	c := &device.Command{ID: "01J", Tenant: "t", Device: "d", Name: "heat", CreatedAt: time.Unix(5, 0).UTC()}
	if _, err := b.commands.publishWait(t.Context(), item{subject: commandSubject(c.ForDevice()), body: devicepb.MarshalCommand(c)}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.events.publishWait(t.Context(), event("d", -1, nil)); err != nil {
		t.Fatal(err)
	}
	waitStored(t, p)
	if len(s.events) != 2 {
		t.Fatalf("events: %+v", s.events)
	}
	for _, e := range s.events {
		if e.State == device.StateQueued && (e.Request == nil || e.Request.Name != "heat" || !e.At.Equal(c.CreatedAt) || e.Command != "01J") {
			t.Errorf("the creating event is %+v", e)
		}
	}
	eventually(t, "no lag", func() bool { return p.Lag() == 0 })
	if err := p.Healthy(); err != nil {
		t.Error(err)
	}
}

// The store fails, loses its answers and is restarted; the persister is
// restarted, and messages keep coming.
func TestStoredOnceWhateverFails(t *testing.T) {
	const n, rounds = 2000, 10
	b, s := inside(t, t.TempDir(), Options{Durability: Relaxed}), newMemStore(t)
	flaky := func(*storage.Batch) error {
		if rand.IntN(3) == 0 {
			return errOutage
		}
		return nil
	}
	s.hook(flaky, flaky)
	sent := make(chan struct{})
	go func() { defer close(sent); submitAll(t, b, "d", n) }()
	o := quick
	o.MaxBatch = 50
	for range rounds {
		p := persist(t, b, s, o)
		before := len(s.payloads())
		eventually(t, "some progress", func() bool { got := len(s.payloads()); return got == n || got > before+n/rounds/2 })
		stopWithin(t, p.Close)
	}
	<-sent
	s.hook(nil, nil)
	waitStored(t, persist(t, b, s, quick))
	wantOnce(t, s, "d", n)
}

func TestAnOutageIsReportedAndEnds(t *testing.T) {
	b, s := inside(t, t.TempDir(), Options{Durability: Relaxed}), newMemStore(t)
	s.hook(func(*storage.Batch) error { return errOutage }, nil)
	p := persist(t, b, s, quick)
	submitAll(t, b, "d", 10)
	eventually(t, "an unhealthy persister", func() bool { return p.Healthy() != nil })
	eventually(t, "lag", func() bool { return p.Lag() == 10 })
	ctx, cancel := contextFor(t, 50*time.Millisecond)
	defer cancel()
	if err := p.WaitStored(ctx); err == nil {
		t.Error("WaitStored returned during an outage")
	}
	s.hook(nil, nil)
	waitStored(t, p)
	wantOnce(t, s, "d", 10)
	if err := p.Healthy(); err != nil {
		t.Error(err)
	}
}

// Large messages, and a store that is behind them.
func TestWhatWaitsForTheStoreIsBoundedInBytes(t *testing.T) {
	const n, size = 60, 1 << 20
	b, s := inside(t, t.TempDir(), Options{Durability: Relaxed}), newMemStore(t)
	answers := make(chan error, n)
	for range n {
		m := testMessage("d", 0)
		m.Payload = make([]byte, size)
		if err := b.Submit(m, func(err error) { answers <- err }); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
	var read, stored, most atomic.Int64
	all := make(chan struct{})
	l := &line{p: &Persister{b: b, store: s, opts: quick.withDefaults()}, stream: TelemetryStream, moved: make(chan struct{}),
		decode: func(r raw, e *entry) error {
			if most.Store(max(most.Load(), read.Add(1)-stored.Load())); read.Load() == n {
				close(all)
			}
			return decodeMessage(r, e)
		}}
	s.hook(func(batch *storage.Batch) error {
		if batch.From == 0 { // hold the first one for as long as anything might still be read
			select {
			case <-all:
			case <-time.After(500 * time.Millisecond):
			}
		}
		stored.Add(int64(len(batch.Messages)))
		return nil
	}, nil)
	if err := l.align(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextFor(t, time.Minute)
	defer cancel()
	var carrying sync.WaitGroup
	carrying.Go(func() { _ = l.carry(ctx) })
	if err := l.waitStored(ctx); err != nil {
		t.Error(err)
	}
	cancel()
	carrying.Wait()
	if bound := int64((2*maxBatchBytes + maxBatchBytes/2) / size); most.Load() > bound {
		t.Errorf("%d MiB were in memory at once, the bound is about %d", most.Load(), bound)
	}
}

func TestPoisonGoesToTheDeadLetters(t *testing.T) {
	b, s := inside(t, t.TempDir(), Options{Durability: Relaxed}), newMemStore(t)
	s.hook(func(batch *storage.Batch) error {
		for _, m := range batch.Messages {
			if m.Message.Device == "unstorable" {
				return &storage.BadMessage{Seq: m.Seq, Err: device.Errorf(device.Invalid, "not this one")}
			}
		}
		return nil
	}, nil)
	put := func(subject string, body []byte) {
		if _, err := b.telemetry.publishWait(t.Context(), item{subject: subject, body: body}); err != nil {
			t.Fatal(err)
		}
	}
	submitAll(t, b, "d", 5)
	put("telemetry.t.garbage", []byte{0x0a, 99})
	put("telemetry.t.liar", devicepb.MarshalMessage(testMessage("other", 1)))
	put("telemetry.foreign", []byte{})
	p := persist(t, b, s, quick)
	submitAll(t, b, "unstorable", 1)
	waitStored(t, p)
	wantOnce(t, s, "d", 5)

	var codes []string
	ctx, cancel := contextFor(t, 10*time.Second)
	defer cancel()
	_ = b.read(ctx, DeadLetterStream, 1, nil, func(r raw) error {
		codes = append(codes, r.subject+" "+r.header.Get(HeaderCode)+" "+r.header.Get(HeaderStream)+" "+r.header.Get(HeaderSequence))
		if len(codes) == 4 {
			return errEnough
		}
		return nil
	})
	want := []string{"deadletter.t.garbage undecodable TELEMETRY 6", "deadletter.t.liar undecodable TELEMETRY 7",
		"deadletter.default.unknown undecodable TELEMETRY 8", "deadletter.default.unstorable invalid TELEMETRY 9"}
	if fmt.Sprint(codes) != fmt.Sprint(want) {
		t.Errorf("dead letters:\n%q, want\n%q", codes, want)
	}
}

func TestTwoPersistersStoreOnce(t *testing.T) {
	b, s := inside(t, t.TempDir(), Options{Durability: Relaxed}), newMemStore(t)
	first, second := persist(t, b, s, quick), persist(t, b, s, quick)
	submitAll(t, b, "d", 3000)
	waitStored(t, first)
	waitStored(t, second)
	wantOnce(t, s, "d", 3000)
}

func TestAStreamThatLostItsTail(t *testing.T) {
	b, s := inside(t, t.TempDir(), Options{Durability: Relaxed}), newMemStore(t)
	p := persist(t, b, s, quick)
	submitAll(t, b, "d", 10)
	waitStored(t, p)
	if got := p.Guarded(); got != nil {
		t.Errorf("the epoch guard says it stepped in for %v", got)
	}
	stopWithin(t, p.Close)
	// As after a power cut: the store is ahead of the stream.
	s.mu.Lock()
	pos := s.pos[TelemetryStream]
	pos.Seq = 50
	s.pos[TelemetryStream] = pos
	s.mu.Unlock()
	p = persist(t, b, s, quick)
	if last := lastSeq(t, b, TelemetryStream); last != 50 {
		t.Fatalf("the stream goes on after %d; the numbers up to 50 are taken", last)
	}
	if got := p.Guarded(); len(got) != 1 || got[0] != TelemetryStream || testutil.ToFloat64(b.metrics.epochGuard.WithLabelValues(TelemetryStream)) != 1 {
		t.Errorf("the epoch guard says it stepped in for %v", got)
	}
	submitAll(t, b, "new", 5)
	waitStored(t, p)
	if last := s.messages[len(s.messages)-1]; last.Device != "new" || last.Position != (device.Position{Epoch: pos.Epoch, Seq: 55}) {
		t.Errorf("the last message is %+v", last)
	}
}

func TestAStreamMadeAnew(t *testing.T) {
	for _, ahead := range []bool{false, true} {
		t.Run(fmt.Sprint("clock went back ", ahead), func(t *testing.T) {
			dir, s := t.TempDir(), newMemStore(t)
			b := inside(t, dir, Options{Durability: Relaxed})
			p := persist(t, b, s, quick)
			submitAll(t, b, "old", 10)
			waitStored(t, p)
			stopWithin(t, p.Close)
			if ahead {
				s.mu.Lock()
				for k, v := range s.pos {
					s.pos[k] = device.Position{Epoch: v.Epoch + 1<<40, Seq: v.Seq}
				}
				s.mu.Unlock()
			}
			old := s.pos[TelemetryStream]
			if err := b.js.DeleteStream(t.Context(), TelemetryStream); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Millisecond) // streams are told apart by the millisecond they were made in
			if err := b.ensureStreams(t.Context()); err != nil {
				t.Fatal(err)
			}
			submitAll(t, b, "new", 3) // some before anybody looks
			p = persist(t, b, s, quick)
			submitAll(t, b, "newer", 3)
			waitStored(t, p)
			if n := len(s.messages); n != 16 {
				t.Fatalf("%d messages are stored", n)
			}
			first := s.messages[10]
			if first.Device != "new" || first.Position.Seq != 1 || first.Position.Epoch <= old.Epoch {
				t.Errorf("the first of the new epoch is %+v, before it was %v", first, old)
			}
			end, err := b.TelemetryPosition(t.Context())
			if err != nil || end.Epoch != first.Position.Epoch {
				t.Errorf("the feed has epoch %v (%v), the store %v", end, err, first.Position)
			}
			stopWithin(t, p.Close)
			waitStored(t, persist(t, b, s, quick)) // and it stays so
			if n := len(s.messages); n != 16 {
				t.Fatalf("%d messages are stored after a restart", n)
			}
		})
	}
}

func TestMessagesGoneBeforeTheyWereStoredAreCounted(t *testing.T) {
	b, s := inside(t, t.TempDir(), Options{Durability: Relaxed}), newMemStore(t)
	p := persist(t, b, s, quick)
	submitAll(t, b, "d", 10)
	waitStored(t, p)
	stopWithin(t, p.Close)
	submitAll(t, b, "gone", 10)
	stream, _ := b.js.Stream(t.Context(), TelemetryStream)
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(16)); err != nil {
		t.Fatal(err)
	}
	p = persist(t, b, s, quick)
	waitStored(t, p)
	if got := testutil.ToFloat64(b.metrics.gaps.WithLabelValues(TelemetryStream)); got != 5 {
		t.Errorf("%v messages are counted as gone", got)
	}
	if n := len(s.messages); n != 15 {
		t.Errorf("%d messages are stored", n)
	}
}

func TestTheStreamKeepsWhatReadersNeedAndWhatIsNotStored(t *testing.T) {
	b, s := inside(t, t.TempDir(), Options{Durability: Relaxed}), newMemStore(t)
	s.hook(func(*storage.Batch) error { return errOutage }, nil)
	o := quick
	o.KeepBytes, o.PurgeStep = 20_000, 10_000
	p := persist(t, b, s, o)
	submitAll(t, b, "d", 1000)
	eventually(t, "lag", func() bool { return p.Lag() == 1000 })
	state := func() jetstream.StreamState {
		stream, err := b.js.Stream(context.Background(), TelemetryStream)
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().State
	}
	if st := state(); st.Msgs != 1000 {
		t.Fatalf("%d messages are left, and none was stored", st.Msgs)
	}
	s.hook(nil, nil)
	waitStored(t, p)
	eventually(t, "a purge", func() bool { return state().Bytes < 31_000 })
	if st := state(); st.Bytes < 15_000 || st.LastSeq != 1000 {
		t.Errorf("kept %d bytes up to %d", st.Bytes, st.LastSeq)
	}
	wantOnce(t, s, "d", 1000)
}

func TestPurgeFirst(t *testing.T) {
	st := func(bytes, first, last uint64) jetstream.StreamState {
		return jetstream.StreamState{Bytes: bytes, Msgs: last - first + 1, FirstSeq: first, LastSeq: last}
	}
	for _, c := range []struct {
		state          jetstream.StreamState
		stored, excess int64
		want           uint64
	}{
		{st(1000, 1, 100), 100, 500, 51},
		{st(1000, 1, 100), 10, 500, 11},
		{st(1000, 1, 100), 0, 500, 1},
		{st(1000, 1, 100), 100, 0, 0},
		{st(1000, 1, 100), 100, 1, 2},
		{st(1000, 1, 100), 100, 5000, 101},
		{jetstream.StreamState{}, 0, 500, 0},
	} {
		if got := purgeFirst(c.state, device.Position{Seq: uint64(c.stored)}, c.excess); got != c.want {
			t.Errorf("%+v gave %d", c, got)
		}
	}
}
