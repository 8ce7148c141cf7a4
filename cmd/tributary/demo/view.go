package demo

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// tryByHand are the lines to paste into another terminal.
func (w *world) tryByHand(o Options) string {
	var b strings.Builder
	fmt.Fprintln(&b, "Tributary runs:")
	for _, name := range slices.Sorted(maps.Keys(o.Addresses)) {
		fmt.Fprintf(&b, "  %-11s %s\n", name, o.Addresses[name])
	}
	host, port, _ := strings.Cut(o.Addresses["mqtt"], ":")
	fmt.Fprintf(&b, "\nTry from another terminal:\n")
	fmt.Fprintf(&b, "  mosquitto_pub -h %s -p %s -q 1 -t mine/telemetry/room -m '{\"temperature\":21.5}'\n", host, port)
	fmt.Fprintf(&b, "  curl -H 'Content-Type: application/json' -d '{\"temperature\":21.5}' http://%s/v1/devices/mine/telemetry/room\n", o.Addresses["http"])
	fmt.Fprintf(&b, "  go run ./cmd/tributary query --data %s --device mine\n", o.Data)
	fmt.Fprintf(&b, "  go run ./cmd/tributary tail --data %s\n", o.Data)
	fmt.Fprintf(&b, "  go run ./cmd/tributary send --data %s %s heat '{\"on\":true}' --wait 10s\n", o.Data, w.thermostats[0].name)
	return b.String()
}

// drawScreen paints the whole view in place.
func drawScreen(out io.Writer, w *world, first bool) {
	var b strings.Builder
	lines := 0
	row := func(format string, args ...any) {
		fmt.Fprintf(&b, format+"\x1b[K\n", args...)
		lines++
	}
	row("%-20s %-5s %-5s %8s %-8s %8s %7s", "device", "door", "here", "temp", "heating", "acked", "msg/s")
	elapsed := time.Since(w.started).Seconds()
	for _, t := range w.thermostats {
		temperature, heating, connected, acked, err := t.look()
		note := ""
		if err != nil {
			note = "  " + err.Error()
		}
		row("%-20s %-5s %-5s %6.2f C %-8s %8d %7.1f%s", t.name, t.door.protocol, mark(connected, "yes", "no"),
			temperature, mark(heating, "ON", "off"), acked, float64(acked)/elapsed, note)
	}
	row("")
	row("commands  %s", w.tallyLine())
	recent := w.recent(5)
	for i := range 5 {
		if i < len(recent) {
			c := recent[i]
			row("  %s  %-20s %-14s %s", c.at.Format("15:04:05"), c.device, c.name, c.state)
		} else {
			row("")
		}
	}
	row("Ctrl-C ends the demo")
	if !first {
		fmt.Fprintf(out, "\x1b[%dA", lines)
	}
	io.WriteString(out, b.String())
}

// line is the view for where no terminal is.
func (w *world) line() string {
	acked, here := 0, map[string]int{}
	for _, t := range w.thermostats {
		_, _, connected, n, err := t.look()
		acked += n
		if connected {
			here[t.door.protocol]++
		}
		if err != nil {
			return fmt.Sprintf("%5.1fs  %s: %v", time.Since(w.started).Seconds(), t.name, err)
		}
	}
	var connected []string
	for _, d := range doors {
		connected = append(connected, fmt.Sprintf("%s %d", d.protocol, here[d.protocol]))
	}
	elapsed := time.Since(w.started).Seconds()
	return fmt.Sprintf("%5.1fs  connected: %s   acked: %d (%.0f/s)   commands: %s",
		elapsed, strings.Join(connected, ", "), acked, float64(acked)/elapsed, w.tallyLine())
}

// tallyLine is "mqtt 4 SUCCEEDED, 1 SENT; amqp …".
func (w *world) tallyLine() string {
	tally := w.tally()
	var byDoor []string
	for _, d := range doors {
		var states []string
		for _, state := range slices.Sorted(maps.Keys(tally[d.protocol])) {
			states = append(states, fmt.Sprintf("%d %s", tally[d.protocol][state], state))
		}
		if states == nil {
			states = []string{"none yet"}
		}
		byDoor = append(byDoor, d.protocol+" "+strings.Join(states, ", "))
	}
	return strings.Join(byDoor, "; ")
}

func mark(yes bool, a, b string) string {
	if yes {
		return a
	}
	return b
}
