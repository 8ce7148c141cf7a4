package https

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics is everything the door counts. Labels are bounded: our own routes and
// our own statuses.
type metrics struct {
	requests *prometheus.CounterVec
	stored   prometheus.Counter // the hot one of requests, resolved once
	ack      prometheus.Histogram
	unread   prometheus.Counter
	polls    prometheus.Gauge
	sessions prometheus.Gauge
	locks    prometheus.Counter
	expired  prometheus.Counter
	panics   prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "tributary_http_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "tributary_http_" + name, Help: help})
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tributary_http_requests_total",
			Help: "Requests answered, by route and status; 499 is a client that left before its answer.",
		}, []string{"route", "status"}),
		ack: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "tributary_http_ack_seconds",
			Help:    "From the last byte of a telemetry message to its 204.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		unread:   counter("messages_without_measurements_total", "Messages kept that no decoder took or that held no value."),
		polls:    gauge("polls", "Open command polls and event streams."),
		sessions: gauge("sessions", "Devices attached to their mailbox over HTTP."),
		locks:    counter("locks_total", "Commands handed out under a lock."),
		expired:  counter("locks_expired_total", "Locks that ran out unsettled."),
		panics:   counter("panics_total", "Requests that ended in a panic of ours."),
	}
	m.stored = m.requests.WithLabelValues(routeNames[routeTelemetry], "204")
	for _, c := range []prometheus.Collector{m.requests, m.ack, m.unread, m.polls, m.sessions, m.locks, m.expired, m.panics} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) count(kind routeKind, status int) {
	if kind == routeTelemetry && status == 204 {
		m.stored.Inc()
		return
	}
	m.requests.WithLabelValues(routeNames[kind], strconv.Itoa(status)).Inc()
}

func (m *metrics) acked(since time.Time) { m.ack.Observe(time.Since(since).Seconds()) }
