package pipeline_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/pipeline/embedded"
)

// openBelt starts a server in dir and a belt on it; both end with the test.
func openBelt(t testing.TB, dir string, o pipeline.Options) *pipeline.Belt {
	t.Helper()
	s, err := embedded.Start(embedded.Options{Dir: dir, Durability: embedded.Durability(o.Durability), MaxStore: 8 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, s.Shutdown) })
	o.Server = s
	b, err := pipeline.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, b.Close) })
	return b
}

// finish calls a closing function with time enough.
func finish(t testing.TB, stop func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := stop(ctx); err != nil {
		t.Error(err)
	}
}

func message(devicename string, n int) *device.Message {
	payload := []byte(fmt.Sprintf(`{"n":%d}`, n))
	return &device.Message{Tenant: "default", Device: devicename, Channel: "room", Protocol: device.MQTT, QoS: 1,
		ContentType: "application/json", ReceivedAt: time.Unix(1_800_000_000, int64(n)).UTC(), Payload: payload,
		Measurements: []device.Measurement{{Name: "n", Time: time.Unix(1_800_000_000, int64(n)).UTC(), Value: device.Int(int64(n))}}}
}
