package sqlite

import (
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/storage"
)

// metrics are what /metrics shows of the store. What Stats counts is read from
// there when asked for.
type metrics struct {
	sealSeconds, writeSeconds prometheus.Histogram
	readSeconds               *prometheus.HistogramVec
	all                       []prometheus.Collector
}

func newMetrics(reg prometheus.Registerer, s *Store) (*metrics, error) {
	buckets := prometheus.ExponentialBuckets(0.0001, 4, 10) // 0.1 ms to 26 s
	m := &metrics{
		sealSeconds:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tributary_store_seal_seconds", Help: "Time of one seal, encoding included.", Buckets: buckets}),
		writeSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tributary_store_write_seconds", Help: "Time of one Write, commit included.", Buckets: buckets}),
		readSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tributary_store_read_seconds", Help: "Time of one read.", Buckets: buckets},
			[]string{"query"}),
	}
	counter := func(name, help string, get func(Stats) float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return get(s.Stats()) })
	}
	gauge := func(name, help string, get func(Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return get(s.Stats()) })
	}
	m.all = []prometheus.Collector{
		m.sealSeconds, m.writeSeconds, m.readSeconds,
		counter("tributary_store_messages_total", "Messages committed.", func(s Stats) float64 { return float64(s.Messages) }),
		counter("tributary_store_events_total", "Command events committed.", func(s Stats) float64 { return float64(s.Events) }),
		counter("tributary_store_sealed_messages_total", "Messages sealed.", func(s Stats) float64 { return float64(s.Sealed) }),
		counter("tributary_store_seal_errors_total", "Seals that failed and are tried again.", func(s Stats) float64 { return float64(s.SealErrors) }),
		counter("tributary_store_partitions_dropped_total", "Partitions dropped by retention.", func(s Stats) float64 { return float64(s.PartitionsDropped) }),
		counter("tributary_store_repeated_messages_total", "Messages not stored because the device had sent the same key and payload before.", func(s Stats) float64 { return float64(s.Repeats) }),
		counter("tributary_store_reused_keys_total", "Messages stored although the device had used their key for another payload.", func(s Stats) float64 { return float64(s.KeysReused) }),
		gauge("tributary_store_hot_messages", "Messages not yet sealed.", func(s Stats) float64 { return float64(s.HotRows) }),
		gauge("tributary_store_hot_bytes", "Memory of messages not yet sealed, estimated.", func(s Stats) float64 { return float64(s.HotBytes) }),
		gauge("tributary_store_file_bytes", "Pages of the file in use.", func(s Stats) float64 { return float64(s.FileBytes) }),
		gauge("tributary_store_max_bytes", "What they may take; 0: no bound.", func(Stats) float64 { return float64(s.cfg.MaxBytes) }),
		gauge("tributary_store_partitions", "Partitions in the file.", func(s Stats) float64 { return float64(s.Partitions) }),
		gauge("tributary_store_wal_bytes", "Size of the write-ahead log's file.", func(Stats) float64 { return float64(s.walBytes()) }),
	}
	if reg == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := reg.Register(c); err != nil {
			m.all = m.all[:i]
			m.unregister(reg)
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) unregister(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	for _, c := range m.all {
		reg.Unregister(c)
	}
}

func (m *metrics) read(query string, took time.Duration) {
	m.readSeconds.WithLabelValues(query).Observe(took.Seconds())
}

func (m *metrics) sealed(c *counters, rows int, took time.Duration) {
	m.sealSeconds.Observe(took.Seconds())
	c.sealed.Add(uint64(rows))
	c.seals.Add(1)
	c.sealNanos.Add(int64(took))
}

// wrote counts a committed batch.
func (s *Store) wrote(b *storage.Batch, took time.Duration) {
	s.met.writeSeconds.Observe(took.Seconds())
	s.stat.messages.Add(uint64(len(b.Messages)))
	s.stat.events.Add(uint64(len(b.Events)))
	if int64(took) > s.stat.worstWrite.Load() {
		s.stat.worstWrite.Store(int64(took))
	}
}

func (s *Store) walBytes() int64 {
	info, err := os.Stat(s.cfg.Path + "-wal")
	if err != nil {
		return 0
	}
	return info.Size()
}
