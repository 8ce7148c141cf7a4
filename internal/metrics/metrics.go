// Package metrics makes the collectors of one room, named tributary_{room}_…,
// and registers them.
package metrics

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Room makes a room's collectors and keeps the first error of registering them.
// With a nil Registerer they count and are not shown.
type Room struct {
	Name       string
	Registerer prometheus.Registerer
	Err        error
}

const namespace = "tributary"

// Counter makes tributary_{room}_{name}.
func (r *Room) Counter(name, help string) prometheus.Counter {
	return register(r, prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: r.Name, Name: name, Help: help}))
}

// CounterVec makes a counter with one label, whose values come from a fixed list.
func (r *Room) CounterVec(name, help, label string) *prometheus.CounterVec {
	opts := prometheus.CounterOpts{Namespace: namespace, Subsystem: r.Name, Name: name, Help: help}
	return register(r, prometheus.NewCounterVec(opts, []string{label}))
}

// Gauge makes tributary_{room}_{name}.
func (r *Room) Gauge(name, help string) prometheus.Gauge {
	return register(r, prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: r.Name, Name: name, Help: help}))
}

// GaugeVec makes a gauge with one label, whose values come from a fixed list.
func (r *Room) GaugeVec(name, help, label string) *prometheus.GaugeVec {
	opts := prometheus.GaugeOpts{Namespace: namespace, Subsystem: r.Name, Name: name, Help: help}
	return register(r, prometheus.NewGaugeVec(opts, []string{label}))
}

// register answers the collector already there when a second door of the same
// process registers the same one.
func register[C prometheus.Collector](r *Room, c C) C {
	if r.Registerer == nil {
		return c
	}
	err := r.Registerer.Register(c)
	var twice prometheus.AlreadyRegisteredError
	if errors.As(err, &twice) {
		if same, ok := twice.ExistingCollector.(C); ok {
			return same
		}
	}
	if err != nil && r.Err == nil {
		r.Err = err
	}
	return c
}
