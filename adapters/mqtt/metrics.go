package mqtt

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/device"
	counting "github.com/tributary-iot/tributary/internal/metrics"
)

// metrics counts what passes the door. Labels come from fixed lists only.
type metrics struct {
	connections  prometheus.Gauge
	parked       prometheus.Gauge
	connects     *prometheus.CounterVec // result: accepted, unauthenticated, refused, malformed, unavailable, timeout, lost
	in           [3]prometheus.Counter  // by QoS
	out          [2]prometheus.Counter  // by QoS
	topicsIn     [3]prometheus.Counter  // by QoS
	messagesOut  [3]prometheus.Counter  // by QoS
	ordersIn     prometheus.Counter
	droppedOut   prometheus.Counter
	answers      prometheus.Counter
	refused      *prometheus.CounterVec // code: of package device
	unread       prometheus.Counter
	dropped      prometheus.Counter
	repeats      prometheus.Counter
	malformed    prometheus.Counter
	authFailures prometheus.Counter
	takeovers    prometheus.Counter
	panics       prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	r := counting.Room{Name: "mqtt", Registerer: reg}
	in := r.CounterVec("messages_in_total", "Telemetry messages received.", "qos")
	out := r.CounterVec("commands_out_total", "Commands written to devices.", "qos")
	topicsIn := r.CounterVec("topic_messages_in_total", "Messages received on the tenants' own topics.", "qos")
	messagesOut := r.CounterVec("topic_messages_out_total", "Messages of topics, telemetry among them, written to subscribers.", "qos")
	m := &metrics{
		ordersIn:     r.Counter("commands_in_total", "Commands received from applications."),
		droppedOut:   r.Counter("dropped_out_total", "QoS 0 messages not written to a subscriber that was too slow for them."),
		connections:  r.Gauge("connections", "Connections that passed CONNECT."),
		parked:       r.Gauge("parked_connections", "Connections that wait without a goroutine."),
		connects:     r.CounterVec("connects_total", "Connections by how their CONNECT ended.", "result"),
		in:           byQoS(in),
		topicsIn:     byQoS(topicsIn),
		messagesOut:  byQoS(messagesOut),
		out:          [2]prometheus.Counter{out.WithLabelValues("0"), out.WithLabelValues("1")},
		answers:      r.Counter("answers_in_total", "Answers to commands received."),
		refused:      r.CounterVec("refused_total", "Messages refused, by code.", "code"),
		unread:       r.Counter("messages_without_measurements_total", "Messages that no decoder took or that held no value."),
		dropped:      r.Counter("dropped_total", "QoS 0 messages dropped for want of room."),
		repeats:      r.Counter("repeats_total", "PUBLISH packets sent again while the first was being stored."),
		malformed:    r.Counter("malformed_total", "Connections closed because the peer broke the protocol."),
		authFailures: r.Counter("auth_failures_total", "Connections refused for their credential."),
		takeovers:    r.Counter("takeovers_total", "Connections replaced by a newer one of the same client."),
		panics:       r.Counter("panics_total", "Connections closed by a fault of ours."),
	}
	return m, r.Err
}

func byQoS(v *prometheus.CounterVec) (all [3]prometheus.Counter) {
	for i, qos := range []string{"0", "1", "2"} {
		all[i] = v.WithLabelValues(qos)
	}
	return all
}

func (m *metrics) refuse(err error) {
	m.refused.WithLabelValues(device.CodeOf(err).String()).Inc()
}
