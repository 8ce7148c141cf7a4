package pipeline

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/pipeline/embedded"
)

func TestWhatIsAcknowledgedIsInTheStreamInOrder(t *testing.T) {
	for _, d := range []Durability{Strict, Relaxed} {
		t.Run(string(d), func(t *testing.T) {
			const n = 3000
			dir := t.TempDir()
			s := startEmbedded(t, dir, d)
			b := openOn(t, Options{Server: s, Durability: d})
			submitAll(t, b, "dev1", n)
			if d == Strict && testutil.ToFloat64(b.metrics.commits.WithLabelValues(TelemetryStream, "batch")) == 0 {
				t.Error("3,000 messages waiting made no batch")
			}
			if stats, err := b.Stats(t.Context()); err != nil || stats[0].Messages != n || stats[0].Last.Seq != n {
				t.Errorf("stats %+v, %v", stats, err)
			}
			stopWithin(t, b.Close)
			stopWithin(t, s.Shutdown)

			b = inside(t, dir, Options{Durability: d})
			got := collect(t, b, FeedQuery{Tenant: "default", Device: "dev1"}, &device.Position{}, n)
			for i, m := range got {
				if m.Position.Seq != uint64(i+1) || string(m.Payload) != fmt.Sprintf(`{"n":%d}`, i) {
					t.Fatalf("at %d stands %s of sequence %d", i, m.Payload, m.Position.Seq)
				}
			}
		})
	}
}

func TestRefusedBeforeItIsQueued(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Relaxed, MaxMessageBytes: 1000})
	never := func(error) { t.Error("done was called") }
	for want, m := range map[device.Code]*device.Message{
		device.Invalid:  {Tenant: "t", Device: "a/b"},
		device.TooLarge: {Tenant: "t", Device: "d", Payload: make([]byte, 1001)},
	} {
		if err := b.Submit(m, never); device.CodeOf(err) != want {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	big := &device.Message{Tenant: "t", Device: "d"}
	for range 3 {
		big.Measurements = append(big.Measurements, device.Measurement{Name: "x", Value: device.String(strings.Repeat("y", 1<<20))})
	}
	if err := b.Submit(big, never); device.CodeOf(err) != device.TooLarge {
		t.Errorf("got %v for a message over the server's limit", err)
	}
	submitAll(t, b, "d", 1) // and the connection lives
}

// event makes an item for COMMAND_EVENTS; last is the sequence expected, -1 for any.
func event(name string, last int, done func(uint64, error)) item {
	id := device.ID{Tenant: "t", Device: name}
	return item{subject: commandEventSubject(id), body: devicepb.MarshalCommandEvent(&device.CommandEvent{Tenant: "t", Device: name, State: device.StateSent}),
		cas: last >= 0, lastSeq: uint64(max(last, 0)), done: done}
}

func TestCompareAndSet(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	first, err := b.events.publishWait(t.Context(), event("d", 0, nil))
	if err != nil || first == 0 {
		t.Fatalf("got %d, %v", first, err)
	}
	if _, err := b.events.publishWait(t.Context(), event("d", 0, nil)); !errors.Is(err, ErrWrongLastSequence) {
		t.Fatalf("a second first event gave %v", err)
	}
	if second, err := b.events.publishWait(t.Context(), event("d", int(first), nil)); err != nil || second <= first {
		t.Fatalf("got %d, %v", second, err)
	}
}

func TestOneBadItemDoesNotRefuseItsNeighbours(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	type fate struct {
		i   int
		seq uint64
		err error
	}
	const n, bad = 200, 117
	fates := make(chan fate, n)
	for i := range n {
		last := -1
		if i == bad {
			last = 999
		}
		if err := b.events.publish(event(fmt.Sprint("d", i), last, func(seq uint64, err error) { fates <- fate{i, seq, err} })); err != nil {
			t.Fatal(err)
		}
	}
	seqs := map[uint64]bool{}
	for range n {
		f := <-fates
		if (f.i == bad) != errors.Is(f.err, ErrWrongLastSequence) || f.i != bad && f.err != nil {
			t.Errorf("item %d: %v", f.i, f.err)
		}
		seqs[f.seq] = true
	}
	if len(seqs) != n || lastSeq(t, b, CommandEventStream) != n-1 {
		t.Errorf("%d sequences, the last %d", len(seqs), lastSeq(t, b, CommandEventStream))
	}
	if testutil.ToFloat64(b.metrics.splits.WithLabelValues(CommandEventStream)) == 0 {
		t.Error("no batch was split, so the test proves nothing")
	}
}

// A commit whose reply is lost is repeated until it is known to be stored, and
// stored once.
func TestALostReplyDoesNotStoreTwice(t *testing.T) {
	for name, n := range map[string]int{"single": 1, "batch": halveFrom - 1} {
		for _, cas := range []int{-1, 0} {
			t.Run(fmt.Sprint(name, cas), func(t *testing.T) {
				_, at := externalServer(t, true)
				u, _ := url.Parse(at)
				w := openWire(t, u.Host)
				b := openOn(t, Options{URL: "nats://" + w.Addr().String(), AckTimeout: 200 * time.Millisecond})
				direct := openOn(t, Options{URL: at})
				w.silence()
				type fate struct {
					seq uint64
					err error
				}
				fates := make(chan fate, n)
				b.events.mu.Lock() // so that all are there when the publisher looks
				for i := range n {
					it := event(fmt.Sprint("d", i), cas, func(seq uint64, err error) { fates <- fate{seq, err} })
					b.events.queue = append(b.events.queue, it)
					b.events.bytes += it.size()
				}
				b.events.mu.Unlock()
				b.events.wake <- struct{}{}
				eventually(t, "the silent commit", func() bool { return lastSeq(t, direct, CommandEventStream) >= uint64(n) })
				w.heal()
				for i := range n {
					if f := <-fates; f.err != nil || f.seq != uint64(i+1) {
						t.Fatalf("item %d: sequence %d, %v", i, f.seq, f.err)
					}
				}
				if last := lastSeq(t, direct, CommandEventStream); last != uint64(n) {
					t.Fatalf("%d items made %d messages", n, last)
				}
				eventually(t, "it is healthy again", func() bool { return b.Healthy() == nil })
			})
		}
	}
}

// TestAHalfStoredBatchIsCompleted: the stream has the beginning of a batch whose
// outcome is not known, as when the machine went down in the middle of its commit.
// The repeat stores the rest, and nothing twice.
func TestAHalfStoredBatchIsCompleted(t *testing.T) {
	for _, stored := range []int{1, 2, 40, 99, 100} {
		b := inside(t, t.TempDir(), Options{})
		submitAll(t, b, "before", 3)
		var all []item
		fates := make(chan error, 100)
		seqs := map[uint64]bool{}
		for i := range 100 {
			all = append(all, event(fmt.Sprint("d", i), -1, func(seq uint64, err error) { seqs[seq] = true; fates <- err }))
		}
		p := b.events
		ours := &group{items: all[:stored], batch: true, ids: []string{p.id()}}
		ours.known = make([]bool, stored)
		p.send(ours)
		if !p.wait(ours) || ours.answer.code != 0 {
			t.Fatalf("the beginning was not stored: %+v", ours.answer)
		}
		whole := &group{items: all, batch: true, ids: ours.ids, known: make([]bool, len(all)), first: time.Now(), tries: 1}
		p.send(whole)
		p.finish(whole)
		for range all {
			if err := <-fates; err != nil {
				t.Fatalf("%d stored: %v", stored, err)
			}
		}
		if last := lastSeq(t, b, CommandEventStream); last != 100 || len(seqs) != 100 || seqs[0] {
			t.Errorf("%d stored before the repeat: the stream ends at %d, and %d sequences were told", stored, last, len(seqs))
		}
	}
}

// moody is a server that says it is sick when it is told to.
type moody struct {
	*embedded.Server
	sick atomic.Bool
}

func (s *moody) Healthy() error {
	if s.sick.Load() {
		return errors.New("the disk took nothing")
	}
	return s.Server.Healthy()
}

// TestASickStreamIsNotBelieved: a stream that could not write answers a repeat with
// what it holds in memory. Nothing is acknowledged on its word, and nothing is sent
// again under other ids, until it has been restarted.
func TestASickStreamIsNotBelieved(t *testing.T) {
	server := &moody{Server: startEmbedded(t, t.TempDir(), Strict)}
	b := openOn(t, Options{Server: server})
	p := b.events
	var all []item
	fates := make(chan error, 20)
	for i := range 20 {
		all = append(all, event(fmt.Sprint("d", i), -1, func(_ uint64, err error) { fates <- err }))
	}
	begun := &group{items: all[:7], batch: true, ids: []string{p.id()}, known: make([]bool, 7)}
	p.send(begun)
	p.wait(begun)
	server.sick.Store(true)
	whole := &group{items: all, batch: true, ids: begun.ids, known: make([]bool, len(all)), first: time.Now(), tries: 1}
	p.send(whole)
	finished := make(chan struct{})
	go func() { defer close(finished); p.finish(whole) }()
	eventually(t, "it is repeated", func() bool { return testutil.ToFloat64(b.metrics.retries.WithLabelValues(CommandEventStream)) >= 3 })
	if last := lastSeq(t, b, CommandEventStream); len(fates) != 0 || last != 7 {
		t.Errorf("%d messages were answered, and the stream ends at %d", len(fates), last)
	}
	server.sick.Store(false)
	<-finished
	for range all {
		if err := <-fates; err != nil {
			t.Fatal(err)
		}
	}
	if last := lastSeq(t, b, CommandEventStream); last != 20 {
		t.Errorf("20 messages are %d in the stream", last)
	}
}

// TestWhatCannotBeStagedIsStored: the memory in which batches are staged is full, or
// was tidied away. Their messages are stored one by one.
func TestWhatCannotBeStagedIsStored(t *testing.T) {
	memory := t.TempDir()
	s, err := embedded.Start(embedded.Options{Dir: t.TempDir(), Staging: memory})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopWithin(t, s.Shutdown) })
	b := openOn(t, Options{Server: s})
	places, err := filepath.Glob(filepath.Join(memory, "*", TelemetryStream))
	if err != nil || len(places) != 1 {
		t.Fatalf("staged in %q, %v", places, err)
	}
	if err := errors.Join(os.RemoveAll(places[0]), os.WriteFile(places[0], nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	submitAll(t, b, "dev1", 300)
	if testutil.ToFloat64(b.metrics.splits.WithLabelValues(TelemetryStream)) == 0 {
		t.Error("no batch was refused: this test shows nothing")
	}
	if last := lastSeq(t, b, TelemetryStream); last != 300 {
		t.Errorf("300 messages are %d in the stream", last)
	}
}

// TestIdsOutliveRepeats: every stream remembers a commit's id for longer than one of
// unknown outcome is repeated. Our own server may take up what was sent to it after a
// minute of silence, and remembers for so much longer, also in streams that an older
// release made.
func TestIdsOutliveRepeats(t *testing.T) {
	dir := t.TempDir()
	b := inside(t, dir, Options{})
	older := b.streamConfigs()[0]
	older.Duplicates = dedupWindow
	if _, err := b.js.UpdateStream(t.Context(), older); err != nil {
		t.Fatal(err)
	}
	if err := b.ensureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	names := b.js.StreamNames(t.Context())
	seen := 0
	for name := range names.Name() {
		s, err := b.js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if c := s.CachedInfo().Config; c.AllowAtomicPublish {
			seen++
			if c.Duplicates < retryFor+time.Minute {
				t.Errorf("%s remembers for %s, and a commit is repeated for %s", name, c.Duplicates, retryFor)
			}
		}
	}
	if err := names.Err(); err != nil || seen < 8 {
		t.Fatalf("%d streams seen, %v", seen, err)
	}
	if dedupWindow <= retryFor {
		t.Errorf("an external server remembers for %s, and a commit is repeated for %s", dedupWindow, retryFor)
	}
}

func TestAFullQueueIsBusyAndClosingAnswersAll(t *testing.T) {
	_, at := externalServer(t, true)
	u, _ := url.Parse(at)
	w := openWire(t, u.Host)
	b, err := Open(t.Context(), Options{URL: "nats://" + w.Addr().String(), QueueMessages: 10, BusyAfter: 20 * time.Millisecond, AckTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	w.silence()
	errs, sent := make(chan error, 100_000), 0
	for {
		err := b.Submit(testMessage("d", sent), func(err error) { errs <- err })
		if device.CodeOf(err) == device.Busy {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sent++
	}
	eventually(t, "unhealthy", func() bool { return b.Healthy() != nil })
	ctx, cancel := contextFor(t, 100*time.Millisecond)
	defer cancel()
	if err := b.Close(ctx); err == nil {
		t.Error("closing with unknown outcomes is no error")
	}
	for range sent {
		if err := <-errs; device.CodeOf(err) != device.Unavailable {
			t.Fatalf("got %v", err)
		}
	}
	if err := b.Submit(testMessage("d", 0), nil); device.CodeOf(err) != device.Unavailable {
		t.Errorf("a closed belt answers %v", err)
	}
}

func TestExternalServers(t *testing.T) {
	t.Run("without JetStream", func(t *testing.T) {
		_, at := externalServer(t, false)
		_, err := Open(t.Context(), Options{URL: at})
		if err == nil || !strings.Contains(err.Error(), "JetStream") || !strings.Contains(err.Error(), "enable") {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		if _, err := Open(t.Context(), Options{URL: "nats://127.0.0.1:1"}); err == nil {
			t.Fatal("opened")
		}
	})
	t.Run("with streams of somebody else", func(t *testing.T) {
		_, at := externalServer(t, true)
		b := openOn(t, Options{URL: at})
		if b.Durability() != Trusted {
			t.Errorf("durability is %s", b.Durability())
		}
		s, err := b.js.Stream(t.Context(), TelemetryStream)
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.CachedInfo().Config
		cfg.AllowDirect = false // ours to turn on again
		if _, err := b.js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		openOn(t, Options{URL: at})
		if s, _ := b.js.Stream(t.Context(), TelemetryStream); !s.CachedInfo().Config.AllowDirect {
			t.Error("a safe setting was not put right")
		}
		cfg.MaxAge = time.Hour
		if _, err := b.js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), Options{URL: at}); err == nil || !strings.Contains(err.Error(), "maximum age") {
			t.Errorf("a stream that forgets gave %v", err)
		}
	})
}

func TestVersions(t *testing.T) {
	for v, want := range map[string]bool{"2.12.0": true, "2.15.2": true, "3.0.0": true, "2.11.9": false, "1.99.0": false, "": false, "x.y.z": false} {
		if atLeast(v, minServer) != want {
			t.Errorf("%q: %v", v, !want)
		}
	}
}

func TestReplies(t *testing.T) {
	for data, want := range map[string]uint64{`{"stream":"S","seq":12}`: 12, `{"stream":"S","seq":18446744073709551615}`: 0,
		`{"stream":"S","seq":12,"duplicate":true}`: 0, `{"error":{},"stream":"S","seq":0}`: 0, `{"stream":"S","seq":}`: 0, ``: 0} {
		if seq, ok := parseStored([]byte(data)); ok != (want != 0) || ok && seq != want {
			t.Errorf("%s: %d, %v", data, seq, ok)
		}
	}
}

// TestPublishAllTogether: what is there together is committed in few groups, waits for
// room in the queue like everything else, and is stored in order.
func TestPublishAllTogether(t *testing.T) {
	server, err := embedded.Start(embedded.Options{Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(func() { stopWithin(t, server.Shutdown) })
	b := openOn(t, Options{Server: server, QueueMessages: 300})
	const n = 1000
	done := make(chan error, n)
	var last atomic.Uint64
	var items []item
	for i := range n {
		it := event(fmt.Sprint("d", i), -1, nil)
		it.done = func(seq uint64, err error) {
			if !last.CompareAndSwap(seq-1, seq) {
				err = errors.Join(err, fmt.Errorf("stored at %d after %d", seq, last.Load()))
			}
			done <- err
		}
		items = append(items, it)
	}
	must(t, b.events.publishAll(items))
	for range n {
		must(t, <-done)
	}
	if last := lastSeq(t, b, CommandEventStream); last != n {
		t.Errorf("%d of %d are stored", last, n)
	}
	must(t, b.events.close(t.Context()))
	if err := b.events.publishAll(items[:1]); device.CodeOf(err) != device.Unavailable {
		t.Errorf("a closed publisher: %v", err)
	}
}

// TestCommitsTakeHalf of what is under way, when it is much.
func TestCommitsTakeHalf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                 string
		before, staged, wait int
		durability           Durability
		want                 int
	}{
		{"few", 0, 0, 200, Strict, maxBatch},
		{"all of them wait", 0, 0, 1000, Strict, 500},
		{"after a small one", 5, 0, 995, Strict, 500},
		{"by turns", 500, 400, 100, Strict, 500},
		{"more than a batch has places for", 1000, 0, 3000, Strict, 2000},
		{"nothing is fsynced", 0, 0, 1000, Relaxed, maxBatch},
	} {
		p := &publisher{b: &Belt{opts: Options{Durability: tt.durability, Replicas: 1}}, before: tt.before, count: tt.wait}
		if got := p.most(tt.staged); got != tt.want {
			t.Errorf("%s: %d, not %d", tt.name, got, tt.want)
		}
	}
}
