package embedded

import "github.com/prometheus/client_golang/prometheus"

// register shows how the server is.
func (s *Server) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	metric := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "tributary", Subsystem: "nats", Name: name, Help: help}
	}
	for _, c := range []prometheus.Collector{
		prometheus.NewCounterFunc(prometheus.CounterOpts(metric("restarts_total", "Restarts of the embedded server after its disk failed.")),
			func() float64 { return float64(s.Restarts()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(metric("healthy", "1 while the embedded server can store messages.")),
			func() float64 {
				if s.Healthy() != nil {
					return 0
				}
				return 1
			}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(metric("max_store_bytes", "What the streams may hold together.")),
			func() float64 { return float64(s.MaxStore()) }),
	} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
