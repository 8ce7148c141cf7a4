package topic

import (
	"github.com/prometheus/client_golang/prometheus"

	counting "github.com/tributary-iot/tributary/internal/metrics"
)

// metrics counts what passes through topics.
type metrics struct {
	published     [3]prometheus.Counter // by QoS
	delivered     [3]prometheus.Counter // by QoS
	subscriptions prometheus.Gauge
	groups        prometheus.Gauge
	handedOn      prometheus.Counter
	behind        prometheus.Counter
	unread        prometheus.Counter
	saveErrors    prometheus.Counter
	wills         prometheus.Counter
	panics        prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	r := counting.Room{Name: "topic", Registerer: reg}
	published := r.CounterVec("published_total", "Messages published on tenants' own topics.", "qos")
	delivered := r.CounterVec("delivered_total", "Messages handed to sessions, by the QoS they get.", "qos")
	m := &metrics{
		subscriptions: r.Gauge("subscriptions", "Subscriptions to topics of sessions on this node."),
		groups:        r.Gauge("groups", "Groups of shared subscriptions with sessions on this node."),
		handedOn:      r.Counter("handed_on_total", "Messages a session of a group was given and left to another."),
		behind:        r.Counter("behind_total", "Times a session did not keep up or came back, and was read for alone."),
		saveErrors:    r.Counter("save_errors_total", "Sessions that could not be written down."),
		wills:         r.Counter("wills_total", "Wills published."),
		unread:        r.Counter("unread_total", "Messages of a stream that could not be read."),
		panics:        r.Counter("panics_total", "Faults of ours that were contained."),
	}
	for i, qos := range []string{"0", "1", "2"} {
		m.published[i], m.delivered[i] = published.WithLabelValues(qos), delivered.WithLabelValues(qos)
	}
	return m, r.Err
}
