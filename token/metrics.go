package token

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	collectors "github.com/tributary-iot/tributary/internal/metrics"
)

type metrics struct {
	checks *prometheus.CounterVec // result
	tokens prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	room := collectors.Room{Name: "token", Registerer: r}
	m := &metrics{
		checks: room.CounterVec("checks_total", "API tokens shown, by result: ok, refused or unavailable.", "result"),
		tokens: room.Gauge("tokens", "API tokens there are."),
	}
	if room.Err != nil {
		return nil, fmt.Errorf("token: register metrics: %w", room.Err)
	}
	return m, nil
}
