package pipeline

import (
	"context"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// watched lets a belt look for its streams often, and answers how that ended.
func watched(t *testing.T, b *Belt) <-chan error {
	t.Helper()
	b.watch.every, b.watch.patience = 20*time.Millisecond, 200*time.Millisecond
	ctx, stop := context.WithCancel(context.Background())
	ended, done := make(chan error, 1), make(chan struct{})
	go func() { ended <- b.Watch(ctx); close(done) }()
	t.Cleanup(func() { stop(); <-done })
	looks(t, b, 2)
	return ended
}

// looks waits until the streams were looked for n more times, and somebody answered.
func looks(t *testing.T, b *Belt, n int) {
	t.Helper()
	before, _ := b.watch.counts()
	eventually(t, "the streams are looked for", func() bool { now, _ := b.watch.counts(); return now >= before+n })
}

func (w *streamWatch) counts() (looks, silence int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.looks, w.silence
}

// TestAStreamThatIsGone: a node on a server of somebody else's that lost a stream says
// which, is not healthy, and ends; also when another of the name is there again.
func TestAStreamThatIsGone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lose func(t *testing.T, b, other *Belt) error
		says string
	}{
		"deleted": {func(t *testing.T, _, other *Belt) error {
			return other.js.DeleteStream(t.Context(), TelemetryStream)
		}, "are gone: TELEMETRY:"},
		"a bucket": {func(t *testing.T, _, other *Belt) error {
			return other.js.DeleteKeyValue(t.Context(), DeviceBucket)
		}, "are gone: KV_DEVICES:"},
		"the nodes": {func(t *testing.T, _, other *Belt) error {
			return other.js.DeleteStream(t.Context(), NodeStream)
		}, "are gone: NODES:"},
		"made anew": {func(t *testing.T, _, other *Belt) error {
			if err := other.js.DeleteStream(t.Context(), CommandStream); err != nil {
				return err
			}
			return other.ensureStreams(t.Context())
		}, "made anew: COMMANDS:"},
		"without its end": {func(_ *testing.T, b, _ *Belt) error {
			b.telemetry.stored(100, make([]item, 1)) // as if its server had forgotten 90 messages
			return nil
		}, "acknowledged: TELEMETRY:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, url := externalServer(t, true)
			b, other := openOn(t, Options{URL: url}), openOn(t, Options{URL: url})
			if err := b.ensureNodes(t.Context()); err != nil {
				t.Fatal(err)
			}
			submitAll(t, b, "dev1", 10)
			ended := watched(t, b)
			if err := b.Healthy(); err != nil {
				t.Fatal(err)
			}
			if err := c.lose(t, b, other); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is not healthy", func() bool {
				err := b.Healthy()
				return err != nil && strings.Contains(err.Error(), c.says)
			})
			if err := <-ended; err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "started anew") {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

// TestAStreamThatComesBack: what is restored within the time is no reason to end.
func TestAStreamThatComesBack(t *testing.T) {
	t.Parallel()
	_, url := externalServer(t, true)
	b := openOn(t, Options{URL: url})
	b.watch.keep("LATE")
	b.watch.every, b.watch.patience = 20*time.Millisecond, time.Hour
	done := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { done <- b.Watch(ctx) }()
	eventually(t, "it is missed", func() bool { return b.Healthy() != nil })
	late := b.streamConfigs()[0]
	late.Name, late.Subjects = "LATE", []string{"late"}
	if _, err := b.js.CreateStream(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is there", func() bool { return b.Healthy() == nil })
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestAServerThatIsAwayHasLostNothing: neither one that is restarted, nor a cluster
// without a majority, ends a node.
func TestAServerThatIsAwayHasLostNothing(t *testing.T) {
	t.Parallel()
	t.Run("restarted", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		nats := startChild(t, dir)
		b := openOn(t, Options{URL: nats.url()})
		submitAll(t, b, "dev1", 10)
		ended := watched(t, b)
		for range 3 {
			nats.kill()
			eventually(t, "it is away", func() bool { return b.Connected() != nil })
			nats.start(dir)
			looks(t, b, 5)
			if err := b.Healthy(); err != nil || len(ended) > 0 {
				t.Fatalf("%v, ended: %t", err, len(ended) > 0)
			}
		}
	})
	t.Run("a cluster without a majority", func(t *testing.T) {
		t.Parallel()
		all := clusterOf(t, 3, func(int, *natsserver.Options) {})
		b := openOn(t, Options{URL: all[0].ClientURL(), Replicas: 3})
		ended := watched(t, b)
		all[1].Shutdown()
		all[2].Shutdown()
		eventually(t, "nobody answers", func() bool { _, silence := b.watch.counts(); return silence > 0 })
		answered, silent := b.watch.counts()
		eventually(t, "it looks again", func() bool { looks, silence := b.watch.counts(); return looks+silence > answered+silent })
		if b.watch.says() != nil || len(ended) > 0 {
			t.Errorf("it says %v, and ended: %t", b.watch.says(), len(ended) > 0)
		}
	})
}
