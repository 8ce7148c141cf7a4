package api

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are labelled by method, which only registered methods reach.
type metrics struct {
	calls    *prometheus.CounterVec // method, code
	seconds  *prometheus.HistogramVec
	running  *prometheus.GaugeVec
	barriers *prometheus.CounterVec // result
}

func newMetrics() *metrics {
	return &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tributary_api_calls_total", Help: "gRPC calls that have ended, by method and status code.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tributary_api_call_seconds", Help: "How long gRPC calls took, streams included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}, []string{"method"}),
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tributary_api_calls_running", Help: "gRPC calls under way.",
		}, []string{"method"}),
		barriers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tributary_api_barriers_total",
			Help: "Reads that waited for the store to catch up, by result: passed, or late (answered what there was).",
		}, []string{"result"}),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	return errors.Join(r.Register(m.calls), r.Register(m.seconds), r.Register(m.running), r.Register(m.barriers))
}
