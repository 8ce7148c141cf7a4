package registry

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/device"
)

type metrics struct {
	authentications *prometheus.CounterVec // protocol, result
	lookups         *prometheus.CounterVec // result
	entries         prometheus.GaugeFunc
	watching        prometheus.GaugeFunc
	held            prometheus.GaugeFunc
	revoked         prometheus.Counter
}

func newMetrics(c *cache, h *holds) *metrics {
	return &metrics{
		authentications: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tributary_registry_authentications_total",
			Help: "Credentials checked, by protocol and result: ok, open, refused or unavailable.",
		}, []string{"protocol", "result"}),
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tributary_registry_lookups_total",
			Help: "Principals looked up, by result: hit (in the cache), miss (read from the store) or error.",
		}, []string{"result"}),
		entries: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tributary_registry_cache_entries",
			Help: "Principals and unknown names in the cache.",
		}, func() float64 { return float64(c.len()) }),
		watching: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tributary_registry_watching",
			Help: "1 while changes of the registry are followed and the cache is in use, else 0.",
		}, func() float64 {
			if c.isWatching() {
				return 1
			}
			return 0
		}),
		held: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tributary_registry_held",
			Help: "Connections, and attachments of gateways for others, that end when their principal is revoked.",
		}, func() float64 { return float64(h.len()) }),
		revoked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tributary_registry_revoked_total",
			Help: "Connections and attachments ended because their principal or credential was disabled, removed or expired.",
		}),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	return errors.Join(r.Register(m.authentications), r.Register(m.lookups),
		r.Register(m.entries), r.Register(m.watching),
		r.Register(m.held), r.Register(m.revoked))
}

// authenticated counts one check; the protocol label stays within the doors we know.
func (m *metrics) authenticated(p device.Protocol, result string) {
	switch p {
	case device.MQTT, device.AMQP, device.HTTP:
	default:
		p = "other"
	}
	m.authentications.WithLabelValues(string(p), result).Inc()
}
