package amqp

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
)

// metrics counts what passes the door. Labels come from fixed lists only.
type metrics struct {
	connections  prometheus.Gauge
	connects     *prometheus.CounterVec // result: accepted, refused
	closes       *prometheus.CounterVec // condition: none, lost, or one of ours
	links        *prometheus.GaugeVec   // role of the peer
	linksRefused prometheus.Counter
	in           [2]prometheus.Counter // telemetry by QoS
	answers      prometheus.Counter
	refused      *prometheus.CounterVec // code: of package device
	dropped      prometheus.Counter
	out          prometheus.Counter
	outcomes     *prometheus.CounterVec // outcome of commands
	authFailures prometheus.Counter
	panics       prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	r := registration{reg: reg}
	in := r.vec("messages_in_total", "Telemetry messages received.", "qos")
	m := &metrics{
		connections:  r.gauge("connections", "Connections accepted and not ended."),
		connects:     r.vec("connects_total", "Connections by how their handshake ended.", "result"),
		closes:       r.vec("closes_total", "Open connections by the condition that ended them.", "condition"),
		links:        r.gaugeVec("links", "Links attached, by the peer's role.", "role"),
		linksRefused: r.counter("links_refused_total", "Links refused at attach."),
		in:           [2]prometheus.Counter{in.WithLabelValues("0"), in.WithLabelValues("1")},
		answers:      r.counter("answers_in_total", "Answers to commands received."),
		refused:      r.vec("refused_total", "Messages refused, by code.", "code"),
		dropped:      r.counter("dropped_total", "Settled messages that were not stored."),
		out:          r.counter("commands_out_total", "Commands written to devices."),
		outcomes:     r.vec("command_outcomes_total", "Commands by what the device did with them.", "outcome"),
		authFailures: r.counter("auth_failures_total", "Connections refused for their credential."),
		panics:       r.counter("panics_total", "Connections closed by a fault of ours."),
	}
	return m, r.err
}

var outcomeLabels = map[device.OutcomeKind]string{
	device.Accepted: "accepted", device.Unconfirmed: "unconfirmed", device.Rejected: "rejected", device.Released: "released",
}

// closed counts the end of an open connection; only conditions of our own
// writing become labels.
func (m *metrics) closed(condition wire.Symbol) { m.closes.WithLabelValues(string(condition)).Inc() }

// registration keeps the first error of many registrations.
type registration struct {
	reg prometheus.Registerer
	err error
}

const namespace, subsystem = "tributary", "amqp"

func (r *registration) counter(name, help string) prometheus.Counter {
	return register(r, prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}))
}

func (r *registration) gauge(name, help string) prometheus.Gauge {
	return register(r, prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}))
}

func (r *registration) gaugeVec(name, help, label string) *prometheus.GaugeVec {
	opts := prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	return register(r, prometheus.NewGaugeVec(opts, []string{label}))
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

func (m *metrics) refuse(err error) {
	m.refused.WithLabelValues(device.CodeOf(err).String()).Inc()
}
