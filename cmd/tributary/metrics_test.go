package main

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// described is a metric as docs/operations.md lists it.
type described struct{ kind, labels string }

// listedMetrics reads the table of docs/operations.md.
func listedMetrics(t *testing.T) map[string]described {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]described{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(tributary_\\w+)` \\| (\\w+) \\|([^|]*)\\| ([^|]+) \\|$").FindAllStringSubmatch(string(text), -1) {
		if _, twice := all[row[1]]; twice {
			t.Errorf("docs/operations.md lists %s twice", row[1])
		}
		all[row[1]] = described{row[2], strings.NewReplacer("`", "", " ", "").Replace(row[3])}
	}
	return all
}

var aDesc = regexp.MustCompile(`^Desc\{fqName: "(\w+)", help: "(.+?)", .*variableLabels: \{(.*)\}\}$`)

// TestMetricsAreDocumented: every metric a server has is a row of
// docs/operations.md with its labels, and there is no other row.
func TestMetricsAreDocumented(t *testing.T) {
	cfg, err := demoConfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Bridges = []bridgeOptions{{Name: "plant", URL: "amqp://127.0.0.1:1", Receive: []string{"/queue/a"}, Device: "dev1"}}
	h, err := openHouse(t.Context(), cfg, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	descs := make(chan *prometheus.Desc)
	go func() { h.metrics.Describe(descs); close(descs) }()
	listed := listedMetrics(t)
	for d := range descs {
		m := aDesc.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("cannot read %s", d)
		}
		name, help, labels := m[1], m[2], m[3]
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		row, there := listed[name]
		if delete(listed, name); !there {
			t.Errorf("docs/operations.md lacks the metric | `%s` | TYPE | %s | %s |", name, labels, help)
		} else if row.labels != labels {
			t.Errorf("%s has the labels %q, docs/operations.md says %q", name, labels, row.labels)
		}
	}
	for name := range listed {
		t.Errorf("docs/operations.md lists %s, which no server has", name)
	}
}

// scrape answers the text of /metrics, with the types and the series in it.
func scrape(t *testing.T, s *server) (text string, kinds map[string]string, series map[string]bool) {
	t.Helper()
	text, err := askHTTP(t.Context(), "http://"+s.addresses["admin"]+"/metrics", func(*http.Request) {})
	if err != nil {
		t.Fatal(err)
	}
	kinds, series = map[string]string{}, map[string]bool{}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(strings.TrimSpace(rest), " ")
			kinds[name] = kind
		} else if strings.HasPrefix(line, "tributary_") {
			series[line[:strings.LastIndex(line, " ")]] = true
		}
	}
	return text, kinds, series
}

// TestMetricsOfALoadedServer: they keep Prometheus' conventions and are of the
// types docs/operations.md says; and neither names of devices nor anything else a
// peer chooses becomes a label: more of them make no more series.
func TestMetricsOfALoadedServer(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	token, err := os.ReadFile(s.data + "/" + tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	load := func(name string) {
		t.Helper()
		secret := s.addDevice(name)
		for door, knock := range knocks {
			good := secret
			if door == "grpc" || door == "nats" {
				good = strings.TrimSpace(string(token))
			}
			if err := knock(t.Context(), s, name, good, name); err != nil {
				t.Fatalf("%s: %v", door, err)
			}
			for _, wrong := range [][2]string{{name, "wrong-" + name}, {"user-" + name, "x"}, {"", ""}} {
				if err := knock(t.Context(), s, wrong[0], wrong[1], name); err == nil {
					t.Fatalf("%s let a wrong secret in", door)
				}
			}
			if err := knock(t.Context(), s, name, secret, "other-"+name); err == nil && door != "nats" && door != "grpc" {
				t.Errorf("%s let %s speak for another", door, name)
			}
		}
		s.client("send", name, "do-"+name, "{}", "--ttl", "1s")
		s.client("latest", "--device", name)
		for _, path := range []string{"/v1/devices/" + name + "/telemetry/room-" + name, "/" + name, "/v1/devices/" + name + "/commands?wait=0s"} {
			_, _ = askHTTP(t.Context(), "http://"+s.addresses["http"]+path, func(r *http.Request) { r.SetBasicAuth(name, secret) })
			_, _ = askHTTP(t.Context(), "http://"+s.addresses["http"]+path, func(r *http.Request) { r.Method = strings.ToUpper(name) })
		}
	}
	load("zebra-0")
	load("zebra-1") // what a first one begins and ends, on every door
	_, _, before := scrape(t, s)
	for n := 2; n < 6; n++ {
		load(fmt.Sprintf("zebra-%d", n))
	}
	text, kinds, after := scrape(t, s)
	for one := range after {
		if !before[one] && !slowSeries.MatchString(one) {
			t.Errorf("more devices made a new series: %s", one)
		}
	}
	if i := strings.Index(text, "zebra"); i >= 0 {
		t.Errorf("a name is on /metrics: %s", around(text, "zebra"))
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	listed := listedMetrics(t)
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		if row, ok := listed[name]; ok && row.kind != kinds[name] {
			t.Errorf("%s is a %s, docs/operations.md says %s", name, kinds[name], row.kind)
		}
	}
	if shown := len(after); shown < 100 {
		t.Errorf("only %d series: nothing was loaded", shown)
	}
}

// slowSeries are of what happens in its own time: commits in batches, expiry.
var slowSeries = regexp.MustCompile(`^tributary_(pipeline_|command_transitions_total|store_|presence_)`)
