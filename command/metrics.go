package command

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/device"
)

type metrics struct {
	transitions *prometheus.CounterVec
	conflicts   prometheus.Counter
	failures    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Service) *metrics {
	m := &metrics{
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tributary_command_transitions_total",
			Help: "Transitions of commands this node wrote, by the state reached and the protocol of the session that caused it (none: no session).",
		}, []string{"state", "protocol"}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tributary_command_conflicts_total",
			Help: "Transitions that had to be judged anew because another writer was faster.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tributary_command_append_failures_total",
			Help: "Transitions whose append failed or ended unclear.",
		}),
	}
	if reg == nil {
		return m
	}
	gauge := func(name, help string, read func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return float64(read())
		})
	}
	reg.MustRegister(m.transitions, m.conflicts, m.failures,
		gauge("tributary_command_active_devices", "Devices loaded on this node.", func() int { return s.actors.Len() }),
		gauge("tributary_command_deadlines", "Commands waiting for a deadline.", func() int { return len(s.table.due) }),
		gauge("tributary_command_removable", "Commands that have ended and wait for removal from the mailbox.", func() int { return len(s.table.finished) }),
	)
	return m
}

func (m *metrics) transition(e *device.CommandEvent) {
	protocol := "none"
	switch e.Protocol {
	case device.MQTT, device.AMQP, device.HTTP:
		protocol = string(e.Protocol)
	}
	m.transitions.WithLabelValues(e.State.String(), protocol).Inc()
}
