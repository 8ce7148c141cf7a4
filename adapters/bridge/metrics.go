package bridge

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/device"
	counting "github.com/tributary-iot/tributary/internal/metrics"
)

// metrics counts what passes the bridges. The label bridge is a link's name, of
// which the configuration has a few; the others come from fixed lists.
type metrics struct {
	up       *prometheus.GaugeVec
	inflight *prometheus.GaugeVec
	devices  *prometheus.GaugeVec
	connects *prometheus.CounterVec // result: done, failed
	counts   [kinds]*prometheus.CounterVec
	refused  *prometheus.CounterVec // code: of package device
	outcomes *prometheus.CounterVec // outcome of commands
	unread   prometheus.Counter
	panics   prometheus.Counter
}

// kind is what a link counts.
type kind int

const (
	received kind = iota
	accepted
	rejected
	released
	commandsOut
	answers
	kinds
)

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	r := counting.Room{Name: "bridge", Registerer: reg}
	const label = "bridge"
	m := &metrics{
		up:       r.GaugeVec("up", "1 while the bridge is connected to its broker and receives.", label),
		inflight: r.GaugeVec("inflight_messages", "Messages of the broker that are not answered yet.", label),
		devices:  r.GaugeVec("devices", "Devices whose commands the bridge takes out.", label),
		connects: r.CounterVec("connects_total", "Attempts to connect to a broker, by how they ended: done, failed.", "result"),
		refused:  r.CounterVec("refused_total", "Messages of brokers refused, by code.", "code"),
		outcomes: r.CounterVec("command_outcomes_total", "Commands by what the broker did with them.", "outcome"),
		unread:   r.Counter("messages_without_measurements_total", "Messages that no decoder took or that held no value."),
		panics:   r.Counter("panics_total", "Connections closed by a fault of ours."),
	}
	m.counts = [kinds]*prometheus.CounterVec{
		received:    r.CounterVec("messages_in_total", "Messages received from the broker, answers to commands included.", label),
		accepted:    r.CounterVec("messages_accepted_total", "Messages accepted: what they say is stored.", label),
		rejected:    r.CounterVec("messages_rejected_total", "Messages rejected: the broker shall not deliver them again.", label),
		released:    r.CounterVec("messages_released_total", "Messages released: the broker may deliver them again.", label),
		commandsOut: r.CounterVec("commands_out_total", "Commands sent to the broker.", label),
		answers:     r.CounterVec("answers_in_total", "Answers to commands received.", label),
	}
	return m, r.Err
}

// counters are one link's share of the metrics, which its status shows, too.
type counters struct {
	n        [kinds]atomic.Uint64
	shown    [kinds]prometheus.Counter
	flying   atomic.Int64
	inflight prometheus.Gauge
}

func (m *metrics) of(name string) *counters {
	c := &counters{inflight: m.inflight.WithLabelValues(name)}
	for k := range kinds {
		c.shown[k] = m.counts[k].WithLabelValues(name)
	}
	m.up.WithLabelValues(name).Set(0)
	m.devices.WithLabelValues(name).Set(0)
	return c
}

func (c *counters) inc(k kind) {
	c.n[k].Add(1)
	c.shown[k].Inc()
}

func (c *counters) get(k kind) uint64 { return c.n[k].Load() }

func (c *counters) fly(by int64) {
	c.flying.Add(by)
	c.inflight.Add(float64(by))
}

var outcomeLabels = map[device.OutcomeKind]string{
	device.Unconfirmed: "accepted", device.Rejected: "rejected", device.Released: "released",
}

func (m *metrics) refuse(err error) { m.refused.WithLabelValues(device.CodeOf(err).String()).Inc() }
