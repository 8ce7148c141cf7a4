package mqtt

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/device"
)

// TestLooseOutputIsBounded: of what comes with QoS 0 faster than a subscriber's connection
// takes it, as much waits as of QoS 1, and the rest is dropped and counted.
func TestLooseOutputIsBounded(t *testing.T) {
	counted := prometheus.NewRegistry()
	m, err := newMetrics(counted)
	if err != nil {
		t.Fatal(err)
	}
	s := newSession(&Server{metrics: m}, nil)
	s.writing = true // and takes its time
	s.topics = &subscriber{s: s, member: reading{}}
	d := device.TopicDelivery{Publication: &device.Publication{Topic: "a", Payload: make([]byte, 1000)}}
	const messages = 2 * maxOutput / 1000
	s.topics.offer(d)
	size := len(s.out)
	for range messages - 1 {
		s.topics.offer(d)
	}
	families, err := counted.Gather()
	if err != nil {
		t.Fatal(err)
	}
	dropped := 0
	for _, f := range families {
		if f.GetName() == "tributary_mqtt_dropped_out_total" {
			dropped = int(f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	waiting := len(s.out) / size
	if len(s.out) < maxOutput || len(s.out) > maxOutput+size || waiting+dropped != messages {
		t.Errorf("%d wait, in %d bytes, and %d of %d were dropped", waiting, len(s.out), dropped, messages)
	}
}
