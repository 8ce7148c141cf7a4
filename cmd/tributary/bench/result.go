package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// result is what one load saw.
type result struct {
	acked     int
	refused   int
	elapsed   time.Duration
	parts     [][]time.Duration // the latency of every acknowledged message, by who saw it
	latencies []time.Duration   // all of parts in order, once sorted
}

// merge adds what another connection saw. It copies no latencies, so that the
// server's figures can be read the moment the load ends.
func (r *result) merge(other result) {
	r.acked += other.acked
	r.refused += other.refused
	r.parts = append(r.parts, other.parts...)
	if other.latencies != nil {
		r.parts = append(r.parts, other.latencies)
	}
}

func (r *result) rate() float64 { return float64(r.acked) / r.elapsed.Seconds() }

// quantile answers the latency that a share q of the messages stayed below.
func (r *result) quantile(q float64) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	return r.latencies[min(int(q*float64(len(r.latencies))), len(r.latencies)-1)]
}

func (r *result) sort() {
	r.latencies = slices.Concat(r.parts...)
	slices.Sort(r.latencies)
}

// payload is a reading of about 200 bytes with three measurements.
func payload(connection, n int) []byte {
	p := fmt.Appendf(nil, `{"temperature":%d.%d,"humidity":%d,"state":"running","site":"plant 7, hall 2, line 14","note":"`,
		15+n%10, n%10, 30+(n+connection)%40)
	for len(p) < 198 {
		p = append(p, 'x')
	}
	return append(p, '"', '}')
}

// payloads are made beforehand: the load is the server's, not ours.
func payloads(connection int) [][]byte {
	all := make([][]byte, 64)
	for n := range all {
		all[n] = payload(connection, n)
	}
	return all
}

func report(out io.Writer, rows []measurement, o Options) {
	pace := ""
	if o.Rate > 0 {
		pace = fmt.Sprintf(" paced at %d/s, latency from the moment each was due", o.Rate)
	}
	fmt.Fprintf(out, "\n%s each; MQTT QoS 1 on %d connections x %d in flight%s, AMQP unsettled on %d x %d, HTTP keep-alive on %d; 200-byte JSON, 3 measurements\n\n",
		o.For, o.Connections, o.InFlight, pace, amqpConnections, amqpInFlight, httpConnections)
	const columns = "%-14s %10s %10s %10s %10s %10s %10s %9s %9s %9s %8s\n"
	fmt.Fprintf(out, columns, "case", "acked/s", "of broker", "rows/s", "lag half", "lag end", "drain", "p50", "p99", "CPU s/M", "refused")
	base := map[string]float64{} // by protocol
	for _, m := range rows {
		b := brokerOf(m.name)
		if b != nil {
			base[b.protocol] = m.result.rate()
		}
		ratio, committed, half, lag, drain := "-", "-", "-", "-", "-"
		if beside := besides(base, m.name); beside > 0 {
			ratio = fmt.Sprintf("%.2f", m.result.rate()/beside)
		}
		if b == nil {
			committed = fmt.Sprintf("%.0f", float64(m.server.committedAtEnd)/m.result.elapsed.Seconds())
			half, lag, drain = fmt.Sprint(m.server.lagAtHalf), fmt.Sprint(m.server.lagAtEnd), m.server.drain.Round(time.Millisecond).String()
		}
		fmt.Fprintf(out, columns, m.name, fmt.Sprintf("%.0f", m.result.rate()), ratio, committed, half, lag, drain,
			m.result.quantile(0.5).Round(10*time.Microsecond).String(), m.result.quantile(0.99).Round(10*time.Microsecond).String(),
			fmt.Sprintf("%.1f", m.server.cpu.Seconds()/float64(max(m.result.acked, 1))*1e6), fmt.Sprint(m.result.refused))
	}
	fmt.Fprintln(out)
	for _, b := range brokers {
		if base[b.protocol] > 0 {
			fmt.Fprintf(out, "%s.conf: %s\n", b.name, quoteConf(b.conf))
		}
	}
}

// besides is the rate of the broker that a case is put beside: that of its own
// protocol, for HTTP the one of MQTT; 0 when it was not measured.
func besides(base map[string]float64, name string) float64 {
	protocol, _, _ := strings.Cut(name, "-")
	if b := brokerOf(name); b != nil {
		protocol = b.protocol
	}
	if protocol == "http" {
		protocol = "mqtt"
	}
	return base[protocol]
}
