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
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(metric("disk_free_bytes", "What the disk of the streams has left.")),
			func() float64 { free, _, _ := s.Disk(); return float64(free) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(metric("disk_reserve_bytes", "What of it is not for messages.")),
			func() float64 { _, reserve, _ := s.Disk(); return float64(reserve) }),
	} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
