package mqtt

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/device"
)

// metrics counts what passes the door. Labels come from fixed lists only.
type metrics struct {
	connections  prometheus.Gauge
	connects     *prometheus.CounterVec // result: accepted, unauthenticated, refused, malformed, unavailable, timeout, lost
	in           [2]prometheus.Counter  // by QoS
	out          [2]prometheus.Counter  // by QoS
	answers      prometheus.Counter
	refused      *prometheus.CounterVec // code: of package device
	dropped      prometheus.Counter
	repeats      prometheus.Counter
	malformed    prometheus.Counter
	authFailures prometheus.Counter
	takeovers    prometheus.Counter
	panics       prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	r := registration{reg: reg}
	in := r.vec("messages_in_total", "Telemetry messages received.", "qos")
	out := r.vec("commands_out_total", "Commands written to devices.", "qos")
	m := &metrics{
		connections:  r.gauge("connections", "Connections that passed CONNECT."),
		connects:     r.vec("connects_total", "Connections by how their CONNECT ended.", "result"),
		in:           [2]prometheus.Counter{in.WithLabelValues("0"), in.WithLabelValues("1")},
		out:          [2]prometheus.Counter{out.WithLabelValues("0"), out.WithLabelValues("1")},
		answers:      r.counter("answers_in_total", "Answers to commands received."),
		refused:      r.vec("refused_total", "Messages refused, by code.", "code"),
		dropped:      r.counter("dropped_total", "QoS 0 messages dropped for want of room."),
		repeats:      r.counter("repeats_total", "PUBLISH packets sent again while the first was being stored."),
		malformed:    r.counter("malformed_total", "Connections closed because the peer broke the protocol."),
		authFailures: r.counter("auth_failures_total", "Connections refused for their credential."),
		takeovers:    r.counter("takeovers_total", "Connections replaced by a newer one of the same client."),
		panics:       r.counter("panics_total", "Connections closed by a fault of ours."),
	}
	return m, r.err
}

func (m *metrics) refuse(err error) {
	m.refused.WithLabelValues(device.CodeOf(err).String()).Inc()
}

// registration keeps the first error of many registrations.
type registration struct {
	reg prometheus.Registerer
	err error
}

const namespace, subsystem = "tributary", "mqtt"

func (r *registration) counter(name, help string) prometheus.Counter {
	return register(r, prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}))
}

func (r *registration) gauge(name, help string) prometheus.Gauge {
	return register(r, prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}))
}

func (r *registration) vec(name, help, label string) *prometheus.CounterVec {
	opts := prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	return register(r, prometheus.NewCounterVec(opts, []string{label}))
}

// register answers the collector already there when a second door of the same
// process registers the same one.
func register[C prometheus.Collector](r *registration, c C) C {
	if r.reg == nil {
		return c
	}
	err := r.reg.Register(c)
	var twice prometheus.AlreadyRegisteredError
	if errors.As(err, &twice) {
		if same, ok := twice.ExistingCollector.(C); ok {
			return same
		}
	}
	if err != nil && r.err == nil {
		r.err = err
	}
	return c
}
