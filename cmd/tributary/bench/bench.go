// Package bench measures Tributary the way a user would choose it: whole
// processes on loopback, with decoding, persister and sealing on, beside a
// broker they know, in one run. Every load is bounded in time and stops by itself.
package bench

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tributary-iot/tributary/internal/rabbitmq"
)

// Options says what to measure.
type Options struct {
	Binary      string        // the tributary program to start as the server
	For         time.Duration // how long each load lasts
	Connections int           // MQTT connections
	InFlight    int           // messages each connection keeps unacknowledged
	Rate        int           // messages a second of all MQTT connections together; 0: as fast as acks come
	Idle        int           // connections that Idle opens
	Cases       []string      // names from Cases(); empty: all
	Profiles    string        // directory for CASE.pprof, a CPU profile of each server; "": none
	Out         io.Writer
}

// load is one kind of generator.
type load struct {
	protocol string
	run      func(ctx context.Context, addr string, o Options) (result, error)
}

// measurement is one row of the report.
type measurement struct {
	name   string
	result result
	server serverFigures
}

var loads = []load{{"mqtt", loadMQTT}, {"amqp", loadAMQP}, {"http", loadHTTP}}

// broker is one that a protocol's figures are put beside.
type broker struct {
	name     string
	protocol string
	program  string
	start    func(ctx context.Context) (*server, error)
	run      func(ctx context.Context, addr string, o Options) (result, error)
	conf     string
}

var brokers = []broker{
	{"mosquitto", "mqtt", "mosquitto", startMosquitto, loadMQTT, mosquittoConf},
	{rabbitName, "amqp", rabbitmq.Program, startRabbitMQ, loadRabbitMQ, rabbitmq.Conf},
}

// Cases names every measurement, in order.
func Cases() []string {
	var names []string
	for _, b := range brokers {
		names = append(names, b.name)
	}
	for _, durability := range []string{"strict", "relaxed"} {
		for _, l := range loads {
			names = append(names, l.protocol+"-"+durability)
		}
	}
	return append(names, callsCase, topicsCase)
}

// Run measures each case and prints the report.
func Run(ctx context.Context, o Options) error {
	var rows []measurement
	for _, name := range Cases() {
		if !o.chosen(name) || name == callsCase || name == topicsCase {
			continue
		}
		fmt.Fprintf(o.Out, "%s: %s of load …\n", name, o.For)
		row, err := measure(ctx, name, o)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		rows = append(rows, row)
	}
	if len(rows) > 0 {
		report(o.Out, rows, o)
	}
	if o.chosen(callsCase) {
		fmt.Fprintf(o.Out, "%s: %s of calls, %s of requests …\n", callsCase, o.For, o.For)
		figures, err := measureCalls(ctx, o)
		if err != nil {
			return fmt.Errorf("%s: %w", callsCase, err)
		}
		reportCalls(o.Out, figures, o)
	}
	if o.chosen(topicsCase) {
		figures, err := measureTopics(ctx, o)
		if len(figures) > 0 {
			reportTopics(o.Out, figures, o)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", topicsCase, err)
		}
	}
	return nil
}

// chosen reports whether a case is to be measured, and can be here.
func (o Options) chosen(name string) bool {
	if len(o.Cases) > 0 && !slices.Contains(o.Cases, name) {
		return false
	}
	b := brokerOf(name)
	return b == nil || o.installed(b)
}

// installed reports whether a broker is here, and says so when it is not.
func (o Options) installed(b *broker) bool {
	_, err := exec.LookPath(b.program)
	if err != nil {
		fmt.Fprintf(o.Out, "%s is not on this machine: no broker to compare %s with (apt-get install %s)\n", b.name, b.protocol, path.Base(b.program))
	}
	return err == nil
}

// brokerOf is the broker that a case measures, nil when that is Tributary.
func brokerOf(name string) *broker {
	i := slices.IndexFunc(brokers, func(b broker) bool { return b.name == name })
	if i < 0 {
		return nil
	}
	return &brokers[i]
}

func measure(ctx context.Context, name string, o Options) (measurement, error) {
	srv, err := startServer(ctx, name, o)
	if err != nil {
		return measurement{}, err
	}
	protocol, _, _ := strings.Cut(name, "-")
	choice := loads
	if b := brokerOf(name); b != nil {
		protocol, choice = b.protocol, []load{{b.protocol, b.run}}
	}
	defer srv.remove()
	for _, l := range choice {
		if l.protocol != protocol {
			continue
		}
		loading, cancel := context.WithTimeout(ctx, o.For)
		half := srv.lagAt(loading, o.For/2)
		result, err := l.run(loading, srv.addresses[protocol], o)
		cancel()
		if err != nil {
			srv.stop()
			return measurement{}, err
		}
		figures, err := srv.finish(ctx, result)
		figures.lagAtHalf = half()
		result.sort()
		return measurement{name, result, figures}, err
	}
	return measurement{}, fmt.Errorf("no load speaks %q", protocol)
}
