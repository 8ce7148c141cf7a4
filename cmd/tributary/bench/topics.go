package bench

import (
	"context"
	"fmt"
	"io"
	"time"
)

// topicsCase measures a tenant's own topics and MQTT connections, each figure
// beside mosquitto's, one right after the other.
const topicsCase = "topics-strict"

// topicsIdle is how many connections are made for the last two figures, unless
// Options.Idle says.
const topicsIdle = 5000

// topicRow is one figure of both servers.
type topicRow struct {
	name              string
	unit              string
	mosquitto, us     float64
	mosquittoCPU, cpu time.Duration // for a million; 0: not told
	refused           int           // of ours: messages that were dropped, or not acknowledged in time
}

// topicLoad is a load on topics; what it counts is in the result.
type topicLoad struct {
	name string
	run  func(ctx context.Context, addr string, o Options) (result, error)
}

var topicLoads = []topicLoad{
	{"publish QoS 0", publishLoad(0)},
	{"publish QoS 1", publishLoad(1)},
	{"publish QoS 2", publishLoad(2)},
	{"fan-out to 1", fanOutLoad(1)},
	{"fan-out to 10", fanOutLoad(10)},
	{"fan-out to 100", fanOutLoad(100)},
	{"fan-out to 1,000", fanOutLoad(1000)},
}

// measureTopics measures every row, mosquitto first when it is here.
func measureTopics(ctx context.Context, o Options) (rows []topicRow, err error) {
	servers := []string{topicsCase}
	if o.installed(brokerOf("mosquitto")) {
		servers = []string{"mosquitto", topicsCase}
	}
	for _, l := range topicLoads {
		row := topicRow{name: l.name, unit: "a second"}
		for _, name := range servers {
			fmt.Fprintf(o.Out, "%s, %s: %s of load …\n", l.name, name, o.For)
			r, cpu, err := measureTopic(ctx, name, l, o)
			if err != nil {
				return rows, fmt.Errorf("%s, %s: %w", l.name, name, err)
			}
			each := time.Duration(float64(cpu) / float64(max(r.acked, 1)) * 1e6)
			if name == topicsCase {
				row.us, row.cpu, row.refused = r.rate(), each, r.refused
			} else {
				row.mosquitto, row.mosquittoCPU = r.rate(), each
			}
		}
		rows = append(rows, row)
	}
	return measureConnections(ctx, servers, rows, o)
}

// measureTopic runs one load on a server of its own.
func measureTopic(ctx context.Context, name string, l topicLoad, o Options) (r result, cpu time.Duration, err error) {
	srv, err := startServer(ctx, name, o, "--max-connections", "2000")
	if err != nil {
		return r, 0, err
	}
	defer srv.remove()
	loading, cancel := context.WithTimeout(ctx, o.For)
	defer cancel()
	if r, err = l.run(loading, srv.addresses["mqtt"], o); err != nil {
		return r, 0, err
	}
	if err := srv.stop(); err != nil {
		return r, 0, err
	}
	return r, srv.cmd.ProcessState.UserTime() + srv.cmd.ProcessState.SystemTime(), nil
}

// measureConnections adds how fast connections are made, and what one costs.
func measureConnections(ctx context.Context, servers []string, rows []topicRow, o Options) ([]topicRow, error) {
	if o.Idle == 0 {
		o.Idle = topicsIdle
	}
	made, memory := topicRow{name: "connections made", unit: "a second"}, topicRow{name: "idle connection", unit: "KiB"}
	for _, name := range servers {
		fmt.Fprintf(o.Out, "%s: %d idle connections …\n", name, o.Idle)
		r, err := measureIdle(ctx, idleCase{name: name, door: "mqtt"}, o)
		if err != nil {
			return rows, fmt.Errorf("connections, %s: %w", name, err)
		}
		if name == topicsCase {
			made.us, memory.us = r.made, r.memory
		} else {
			made.mosquitto, memory.mosquitto = r.made, r.memory
		}
	}
	return append(rows, made, memory), nil
}

func reportTopics(out io.Writer, rows []topicRow, o Options) {
	fmt.Fprintf(out, "\n%s each; own topics, 200 bytes; published on %d connections x %d in flight, what is fanned out with QoS 0 and %d messages on the way\n\n",
		o.For, o.Connections, o.InFlight, fanOutWindow)
	const columns = "%-18s %-9s %10s %10s %10s %9s %9s %8s\n"
	fmt.Fprintf(out, columns, "", "", "mosquitto", "Tributary", "of broker", "CPU s/M", "CPU s/M", "refused")
	for _, r := range rows {
		ratio, theirs, cpus := "-", "-", [2]string{"-", "-"}
		if r.mosquitto > 0 {
			ratio, theirs = fmt.Sprintf("%.2f", r.us/r.mosquitto), figure(r.mosquitto)
		}
		for i, cpu := range []time.Duration{r.mosquittoCPU, r.cpu} {
			if cpu > 0 {
				cpus[i] = fmt.Sprintf("%.1f", cpu.Seconds())
			}
		}
		fmt.Fprintf(out, columns, r.name, r.unit, theirs, figure(r.us), ratio, cpus[0], cpus[1], fmt.Sprint(r.refused))
	}
}

func figure(n float64) string {
	if n < 100 {
		return fmt.Sprintf("%.1f", n)
	}
	return fmt.Sprintf("%.0f", n)
}
