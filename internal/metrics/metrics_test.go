package metrics_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tributary-iot/tributary/internal/metrics"
)

func TestTwoDoorsShareTheirCounters(t *testing.T) {
	registry := prometheus.NewRegistry()
	for range 2 {
		door := metrics.Room{Name: "door", Registerer: registry}
		door.Counter("messages_total", "Messages.").Inc()
		door.CounterVec("refused_total", "Refusals.", "code").WithLabelValues("invalid").Inc()
		if door.Err != nil {
			t.Fatal(door.Err)
		}
	}
	if n, err := testutil.GatherAndCount(registry, "tributary_door_messages_total", "tributary_door_refused_total"); n != 2 || err != nil {
		t.Errorf("%d samples, %v", n, err)
	}
}

func TestClashingNamesAreAnError(t *testing.T) {
	door := metrics.Room{Name: "door", Registerer: prometheus.NewRegistry()}
	door.Counter("messages_total", "Messages.")
	door.GaugeVec("messages_total", "Something else.", "kind")
	if door.Err == nil {
		t.Error("two kinds of collectors share a name")
	}
}

func TestWithoutRegistererTheyCount(t *testing.T) {
	door := metrics.Room{Name: "door"}
	gauge := door.Gauge("open", "Open.")
	gauge.Set(3)
	if testutil.ToFloat64(gauge) != 3 || door.Err != nil {
		t.Error("not counted", door.Err)
	}
}
