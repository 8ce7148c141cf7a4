package amqp

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/adapters/amqp/wire"
	"github.com/tributary-iot/tributary/device"
	counting "github.com/tributary-iot/tributary/internal/metrics"
)

// metrics counts what passes the door. Labels come from fixed lists only.
type metrics struct {
	connections    prometheus.Gauge
	connects       *prometheus.CounterVec // result: accepted, refused
	closes         *prometheus.CounterVec // condition: none, lost, or one of ours
	links          *prometheus.GaugeVec   // role of the peer
	linksRefused   prometheus.Counter
	in             [2]prometheus.Counter // telemetry by QoS
	answers        prometheus.Counter
	refused        *prometheus.CounterVec // code: of package device
	unread         prometheus.Counter
	dropped        prometheus.Counter
	out            prometheus.Counter
	outcomes       *prometheus.CounterVec // outcome of commands
	telemetryOut   prometheus.Counter
	commandsIn     prometheus.Counter
	repliesOut     prometheus.Counter
	repliesDropped prometheus.Counter
	authFailures   prometheus.Counter
	panics         prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	r := counting.Room{Name: "amqp", Registerer: reg}
	in := r.CounterVec("messages_in_total", "Telemetry messages received.", "qos")
	m := &metrics{
		connections:    r.Gauge("connections", "Connections accepted and not ended."),
		connects:       r.CounterVec("connects_total", "Connections by how their handshake ended.", "result"),
		closes:         r.CounterVec("closes_total", "Open connections by the condition that ended them.", "condition"),
		links:          r.GaugeVec("links", "Links attached, by the peer's role.", "role"),
		linksRefused:   r.Counter("links_refused_total", "Links refused at attach."),
		in:             [2]prometheus.Counter{in.WithLabelValues("0"), in.WithLabelValues("1")},
		answers:        r.Counter("answers_in_total", "Answers to commands received."),
		refused:        r.CounterVec("refused_total", "Messages refused, by code.", "code"),
		unread:         r.Counter("messages_without_measurements_total", "Messages that no decoder took or that held no value."),
		dropped:        r.Counter("dropped_total", "Settled messages that were not stored."),
		out:            r.Counter("commands_out_total", "Commands written to devices."),
		outcomes:       r.CounterVec("command_outcomes_total", "Commands by what the device did with them.", "outcome"),
		telemetryOut:   r.Counter("telemetry_out_total", "Telemetry messages written to applications."),
		commandsIn:     r.Counter("commands_in_total", "Commands received from applications."),
		repliesOut:     r.Counter("replies_out_total", "Answers and messages written to reply nodes' receivers."),
		repliesDropped: r.Counter("replies_dropped_total", "Answers to commands that no receiver took."),
		authFailures:   r.Counter("auth_failures_total", "Connections refused for their credential."),
		panics:         r.Counter("panics_total", "Connections closed by a fault of ours."),
	}
	return m, r.Err
}

var outcomeLabels = map[device.OutcomeKind]string{
	device.Accepted: "accepted", device.Unconfirmed: "unconfirmed", device.Rejected: "rejected", device.Released: "released",
}

// closed counts the end of an open connection; only conditions of our own
// writing become labels.
func (m *metrics) closed(condition wire.Symbol) { m.closes.WithLabelValues(string(condition)).Inc() }

func (m *metrics) refuse(err error) {
	m.refused.WithLabelValues(device.CodeOf(err).String()).Inc()
}
