package mqtt

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tributary-iot/tributary/device"
)

// TestLooseOutputIsBounded: of what comes with QoS 0 faster than a subscriber's connection
// takes it, as much waits as is configured, what is being written included, and the rest
// is dropped and counted; that it is, is told once.
func TestLooseOutputIsBounded(t *testing.T) {
	counted := prometheus.NewRegistry()
	m, err := newMetrics(counted)
	if err != nil {
		t.Fatal(err)
	}
	const most = 500 << 10
	var told strings.Builder
	cfg := Config{MaxBehindBytes: most, Logger: slog.New(slog.NewTextHandler(&told, nil))}
	s := newSession(&Server{metrics: m, cfg: cfg.withDefaults()}, nil)
	s.writing = true // and takes its time
	s.topics = &subscriber{s: s, member: reading{}}
	d := device.TopicDelivery{Publication: &device.Publication{Topic: "a", Payload: make([]byte, 1000)}}
	const messages = 2 * most / 1000
	s.topics.offer(d)
	size := len(s.out)
	for range messages/2 - most/2000 {
		s.topics.offer(d)
	}
	written, _, _ := s.take(false) // and stands there
	for range messages/2 + most/2000 - 1 {
		s.topics.offer(d)
	}
	dropped := int(testutil.ToFloat64(m.droppedOut))
	bytes := len(written) + len(s.out)
	if bytes < most || bytes > most+size || bytes/size+dropped != messages {
		t.Errorf("%d wait, in %d bytes, and %d of %d were dropped", bytes/size, bytes, dropped, messages)
	}
	s.going = 0 // it is written
	s.topics.offer(d)
	if now := testutil.ToFloat64(m.droppedOut); int(now) != dropped {
		t.Error("there is room again, and it is not used")
	}
	if n := strings.Count(told.String(), "too slow"); n != 1 {
		t.Errorf("it is told %d times that messages are dropped: %s", n, &told)
	}
}
