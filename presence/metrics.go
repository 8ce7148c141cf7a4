package presence

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	collectors "github.com/tributary-iot/tributary/internal/metrics"
)

type metrics struct {
	sessions *prometheus.GaugeVec   // protocol
	ends     *prometheus.CounterVec // reason
	events   prometheus.Counter
	failures prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	room := collectors.Room{Name: "presence", Registerer: r}
	m := &metrics{
		sessions: room.GaugeVec("sessions", "Sessions open on this node.", "protocol"),
		ends:     room.CounterVec("session_ends_total", "Sessions that ended on this node.", "reason"),
		events:   room.Counter("events_total", "Beginnings and ends of sessions that were written."),
		failures: room.Counter("write_errors_total", "Writes that failed; they are repeated."),
	}
	if room.Err != nil {
		return nil, fmt.Errorf("presence: register metrics: %w", room.Err)
	}
	return m, nil
}
