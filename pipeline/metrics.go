package pipeline

import "github.com/prometheus/client_golang/prometheus"

// metrics are counted whether or not somebody registered them.
type metrics struct {
	commits      *prometheus.CounterVec // stream, kind: single or batch
	committed    *prometheus.CounterVec // stream, kind: messages in them
	retries      *prometheus.CounterVec // stream
	splits       *prometheus.CounterVec // stream
	queueFull    *prometheus.CounterVec // stream
	lag          *prometheus.GaugeVec   // stream
	batches      *prometheus.CounterVec // stream
	rows         *prometheus.CounterVec // stream
	writeErrors  *prometheus.CounterVec // stream
	epochGuard   *prometheus.CounterVec // stream
	gaps         *prometheus.CounterVec // stream: messages that were gone before they were stored
	deadLetters  *prometheus.CounterVec // why: refused, undecodable, unstorable
	deadDropped  prometheus.Counter
	tailMissed   prometheus.Counter
	held, room   prometheus.Gauge
	roomRefused  prometheus.Counter
	missed       prometheus.Counter // of subscriptions
	topicsEased  prometheus.Counter
	persistDelay *prometheus.GaugeVec // stream: seconds between stream time and commit of the newest row
}

func newMetrics(r prometheus.Registerer) *metrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "tributary", Subsystem: "pipeline", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "tributary", Subsystem: "pipeline", Name: name, Help: help}, []string{"stream"})
	}
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "tributary", Subsystem: "pipeline", Name: name, Help: help}
	}
	m := &metrics{
		held:         prometheus.NewGauge(prometheus.GaugeOpts(opts("telemetry_bytes", "What the stream of telemetry holds."))),
		room:         prometheus.NewGauge(prometheus.GaugeOpts(opts("telemetry_room_bytes", "What it may still take, before its bound or the disk's reserve is reached."))),
		roomRefused:  prometheus.NewCounter(prometheus.CounterOpts(opts("telemetry_refused_total", "Messages refused for now because there was no room."))),
		commits:      vec("commits_total", "Commits sent to a stream, as single publishes or as one atomic batch.", "stream", "kind"),
		committed:    vec("commit_messages_total", "Messages in those commits.", "stream", "kind"),
		retries:      vec("commit_retries_total", "Commits repeated because their outcome was unknown.", "stream"),
		splits:       vec("commit_splits_total", "Batches rejected and published one by one.", "stream"),
		queueFull:    vec("queue_full_total", "Publishes that had to wait for room in the queue.", "stream"),
		lag:          gauge("persist_lag_messages", "Messages in the stream that are not in the store yet."),
		persistDelay: gauge("persist_delay_seconds", "Age of the newest row when it was committed."),
		batches:      vec("persist_batches_total", "Batches written to the store.", "stream"),
		rows:         vec("persist_rows_total", "Rows written to the store.", "stream"),
		writeErrors:  vec("persist_errors_total", "Writes the store failed; they are repeated.", "stream"),
		epochGuard:   vec("epoch_guard_total", "Times a stream was younger or shorter than the store's position, so that a new epoch began or numbers were passed over.", "stream"),
		gaps:         vec("persist_missing_total", "Sequences that were gone from the stream before they were stored.", "stream"),
		deadLetters:  vec("dead_letters_total", "Messages written to the dead letters.", "why"),
		deadDropped:  prometheus.NewCounter(prometheus.CounterOpts(opts("dead_letters_dropped_total", "Dead letters dropped because their queue was full."))),
		tailMissed:   prometheus.NewCounter(prometheus.CounterOpts(opts("persist_tail_missed_total", "Times the persister went back to the stream for what it did not get from the publisher."))),
		topicsEased:  prometheus.NewCounter(prometheus.CounterOpts(opts("topics_eased_total", "Times the oldest messages of the tenant that held most of the topics went, so that others keep theirs."))),
		missed:       prometheus.NewCounter(prometheus.CounterOpts(opts("subscription_gaps_total", "Times a subscription was further behind than the stream goes back."))),
	}
	if r != nil {
		r.MustRegister(m.commits, m.committed, m.retries, m.splits, m.queueFull, m.lag, m.held, m.room, m.roomRefused, m.persistDelay, m.batches, m.rows,
			m.writeErrors, m.epochGuard, m.gaps, m.deadLetters, m.deadDropped, m.tailMissed, m.missed, m.topicsEased)
	}
	return m
}

func (m *metrics) commit(stream string, batch bool, n int) {
	kind := "single"
	if batch {
		kind = "batch"
	}
	m.commits.WithLabelValues(stream, kind).Inc()
	m.committed.WithLabelValues(stream, kind).Add(float64(n))
}
