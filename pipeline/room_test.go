package pipeline

import (
	"context"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/pipeline/embedded"
	"github.com/tributary-iot/tributary/storage"
)

// submitUntilBusy submits messages of a device from number n on until there is
// no room, waits for the acks, and answers the next number.
func submitUntilBusy(t *testing.T, b *Belt, name string, n int) int {
	t.Helper()
	acks := make(chan error, 10_000)
	waiting := 0
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); n++ {
		err := b.Submit(testMessage(name, n), func(err error) { acks <- err })
		if err == nil {
			waiting++
			continue
		}
		if device.CodeOf(err) != device.Busy {
			t.Fatalf("message %d: %v", n, err)
		}
		for range waiting {
			if err := <-acks; err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	t.Fatalf("%d messages, and there is still room", n)
	return n
}

func telemetryBytes(t *testing.T, b *Belt) uint64 {
	t.Helper()
	all, err := b.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all[0].Bytes
}

func mustCommand(t *testing.T, b *Belt, want device.Code) {
	t.Helper()
	_, err := b.commands.publishWait(t.Context(), item{subject: commandSubject(device.ID{Tenant: "default", Device: "d"}), body: []byte("x")})
	if err == nil && want != device.Internal || err != nil && device.CodeOf(err) != want {
		t.Errorf("a command: %v, wanted code %s", err, want)
	}
}

// TestAFullStreamWaitsForTheStore: with its store away the stream fills to its
// bound and no further, commands go on, and when the store is back telemetry is
// taken again although keep_bytes is far more than the bound.
func TestAFullStreamWaitsForTheStore(t *testing.T) {
	const most = 2 << 20
	b := inside(t, t.TempDir(), Options{StreamBytes: most, BusyAfter: 10 * time.Millisecond})
	s := newMemStore(t)
	s.hook(func(*storage.Batch) error { return errOutage }, nil)
	p := persist(t, b, s, quick)
	n, detail, full := 0, "", error(nil)
	eventually(t, "the stream is full for good", func() bool {
		n = submitUntilBusy(t, b, "d", n)
		detail, full = b.RoomForTelemetry()
		return telemetryBytes(t, b) > most*7/8 && full != nil
	})
	if held := telemetryBytes(t, b); held > most*5/4 {
		t.Errorf("the stream holds %d bytes of %d", held, most)
	}
	if !strings.Contains(full.Error(), "no telemetry is taken") || !strings.Contains(detail, "of 2.0 MiB") {
		t.Errorf("it says %q, %v", detail, full)
	}
	if testutil.ToFloat64(b.metrics.roomRefused) == 0 {
		t.Error("the refusal is not counted")
	}
	mustCommand(t, b, device.Internal)
	s.hook(nil, nil)
	eventually(t, "there is room", func() bool { _, err := b.RoomForTelemetry(); return err == nil })
	// With the store back nobody is refused, however much comes.
	const more = 5000
	for end := n + more; n < end; n++ {
		for err := b.Submit(testMessage("d", n), func(error) {}); err != nil; err = b.Submit(testMessage("d", n), func(error) {}) {
			if device.CodeOf(err) != device.Busy {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "the last message", func() bool { return len(s.payloads()) == n })
	waitStored(t, p)
	wantOnce(t, s, "d", n)
	eventually(t, "the stream is within its bound", func() bool { return telemetryBytes(t, b) <= most })
}

// disk is an embedded server on a disk of our making.
type disk struct {
	*embedded.Server
	free atomic.Int64
}

func (d *disk) Disk() (free, reserve int64, err error) { return d.free.Load(), 1 << 20, nil }

// TestTheReserveOfTheDisk is not for telemetry, and half of it for nobody.
func TestTheReserveOfTheDisk(t *testing.T) {
	d := &disk{Server: startEmbedded(t, t.TempDir(), Strict)}
	d.free.Store(1 << 30)
	b := openOn(t, Options{Server: d, BusyAfter: 10 * time.Millisecond})
	submitAll(t, b, "d", 10)
	mustCommand(t, b, device.Internal)

	d.free.Store(1 << 20)
	eventually(t, "telemetry is refused", func() bool { _, err := b.RoomForTelemetry(); return err != nil })
	if n := submitUntilBusy(t, b, "d", 10); n != 10 {
		t.Errorf("%d messages were taken", n-10)
	}
	mustCommand(t, b, device.Internal)

	d.free.Store(1 << 19)
	eventually(t, "commands are refused", func() bool { return b.room.other.Load() <= 0 })
	mustCommand(t, b, device.Busy)

	d.free.Store(1<<20 + 1000) // too little to begin again
	eventually(t, "commands are taken", func() bool { return b.room.other.Load() > 0 })
	mustCommand(t, b, device.Internal)
	if _, err := b.RoomForTelemetry(); err == nil {
		t.Error("telemetry is taken without slack")
	}
	d.free.Store(2 << 20)
	eventually(t, "telemetry is taken", func() bool { _, err := b.RoomForTelemetry(); return err == nil })
	submitAll(t, b, "d", 10)
}

// TestNothingIsPurgedOnAFullDisk, whoever asks: the server would lock the stream.
func TestNothingIsPurgedOnAFullDisk(t *testing.T) {
	d := &disk{Server: startEmbedded(t, t.TempDir(), Strict)}
	d.free.Store(1 << 30)
	b := openOn(t, Options{Server: d})
	for range 3 {
		mustCommand(t, b, device.Internal)
	}
	d.free.Store(purgeBytes - 1)
	if err := b.Mailbox().Remove(t.Context(), 3, nil); device.CodeOf(err) != device.Busy {
		t.Errorf("on a full disk: %v", err)
	}
	if err := b.CommandLog().Purge(t.Context(), 1); device.CodeOf(err) != device.Busy {
		t.Errorf("on a full disk: %v", err)
	}
	d.free.Store(purgeBytes)
	if err := b.Mailbox().Remove(t.Context(), 3, nil); err != nil {
		t.Error(err)
	}
	if stats, err := b.Stats(t.Context()); err != nil || stats[1].Messages != 1 {
		t.Errorf("%+v, %v", stats, err)
	}
}

// TestSubmitWaitsForRoom rather than refuse, when there is some soon.
func TestSubmitWaitsForRoom(t *testing.T) {
	d := &disk{Server: startEmbedded(t, t.TempDir(), Strict)}
	b := openOn(t, Options{Server: d, BusyAfter: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	acked := make(chan error, 2)
	go func() {
		if err := b.Submit(testMessage("d", 1), func(err error) { acked <- err }); err != nil {
			acked <- err
		}
		cancel()
	}()
	eventually(t, "two looks", func() bool { return b.room.left.Load() < 0 })
	if ctx.Err() != nil {
		t.Fatal("the message was not held back")
	}
	d.free.Store(1 << 30)
	if err := <-acked; err != nil {
		t.Error(err)
	}
}

func TestRoomLeft(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		state       roomState
		left, slack int64
	}{
		{roomState{held: 5}, math.MaxInt64, 64 * mib},
		{roomState{held: 5, most: 80}, 75, 10},
		{roomState{held: 90, most: 80}, -10, 10},
		{roomState{held: 5, most: 1 << 40}, 1<<40 - 5, 64 * mib},
		{roomState{free: 100, reserve: 40, known: true}, 60, 10},
		{roomState{free: 30, reserve: 40, known: true}, -10, 10},
		{roomState{held: 5, most: 8, free: 100, reserve: 40, known: true}, 3, 1},
		{roomState{held: 5, most: 800, free: 100, reserve: 4, known: true}, 96, 1},
	} {
		if left, slack := c.state.left(), c.state.slack(); left != c.left || slack != c.slack {
			t.Errorf("%+v: %d left, slack %d", c.state, left, slack)
		}
	}
}
