package pipeline

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

func TestRefusalsLeaveATrail(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Relaxed})
	sent := bytes.Repeat([]byte("x"), maxDeadBytes+500)
	b.Refused(adapters.Refusal{Device: device.ID{Tenant: "t", Device: "d"}, Protocol: device.MQTT, Address: "d/telemetry\r\nX: y", ContentType: "application/json",
		Raw: sent, Err: device.Errorf(device.Undecodable, "not JSON %s", strings.Repeat("z", 5000))})
	clear(sent) // the adapter's buffer is its own again
	var got raw
	ctx, cancel := contextFor(t, 10*time.Second)
	defer cancel()
	_ = b.read(ctx, DeadLetterStream, 1, nil, func(r raw) error { got = r; return errEnough })
	if got.subject != "deadletter.t.d" || len(got.body) != maxDeadBytes || got.body[0] != 'x' {
		t.Fatalf("on %q with %d bytes", got.subject, len(got.body))
	}
	for header, want := range map[string]string{HeaderCode: "undecodable", HeaderProtocol: "mqtt", HeaderAddress: "d/telemetry  X: y",
		HeaderContentType: "application/json", HeaderLength: "66036", HeaderStream: ""} {
		if v := got.header.Get(header); v != want {
			t.Errorf("%s is %q, want %q", header, v, want)
		}
	}
	if v := got.header.Get(HeaderReason); !strings.HasPrefix(v, "not JSON zzz") || len(v) > maxDeadText {
		t.Errorf("the reason is %q", v)
	}
}

func TestTooManyRefusalsAreDroppedAndCounted(t *testing.T) {
	b := inside(t, t.TempDir(), Options{Durability: Strict})
	const n = 20 * deadQueueSize
	for range n { // it must not block, whatever happens to them
		b.Refused(adapters.Refusal{Device: device.ID{Tenant: "t", Device: "d"}, Err: device.Errorf(device.Invalid, "no")})
	}
	stopWithin(t, b.Close)
	written, dropped := testutil.ToFloat64(b.metrics.deadLetters.WithLabelValues("refused")), testutil.ToFloat64(b.metrics.deadDropped)
	if written+dropped != n || written == 0 {
		t.Errorf("%v written, %v dropped", written, dropped)
	}
	b.Refused(adapters.Refusal{Err: device.Errorf(device.Invalid, "late")})
	if got := testutil.ToFloat64(b.metrics.deadDropped); got != dropped+1 {
		t.Errorf("a late one is not counted: %v", got)
	}
}
