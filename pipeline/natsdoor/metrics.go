package natsdoor

import "github.com/prometheus/client_golang/prometheus"

// metrics are counted whether or not somebody registered them.
type metrics struct {
	requests  *prometheus.CounterVec // kind: api, pull, ack, any; outcome: passed, refused, failed, dropped
	consumers prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "tributary", Subsystem: "natsdoor", Name: "requests_total",
			Help: "Requests of stream consumers on the NATS door."}, []string{"kind", "outcome"}),
		consumers: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "tributary", Subsystem: "natsdoor", Name: "consumers",
			Help: "Consumers that readers have made, as of the last change."}),
	}
	if r != nil {
		r.MustRegister(m.requests, m.consumers)
	}
	return m
}
