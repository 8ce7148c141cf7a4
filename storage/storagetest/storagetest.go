// Package storagetest is the one suite every storage engine passes: what
// package storage promises, tried on a real store in a folder of its own.
//
// An engine's whole test of the contract is one call:
//
//	func TestStore(t *testing.T) {
//		storagetest.Test(t, func(t *testing.T, dir string) storage.Store { ... })
//	}
//
// open must open the same store when given the same dir. Stores that seal,
// compact or otherwise reorganise in the background should be opened with
// bounds so small that it happens all the time, and may have a method
// Seal(context.Context) error, which the suite calls to have it happen now.
package storagetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/storage"
)

// Open opens the store kept in dir, with bounds fit for tests.
type Open func(t *testing.T, dir string) storage.Store

// Test runs the suite. It starts the test binary again as a child process, to
// kill it: the calling test must do nothing before this call that a child
// should not do too.
func Test(t *testing.T, open func(t *testing.T, dir string) storage.Store) {
	if dir := os.Getenv(crashDirEnv); dir != "" {
		crashChild(t, open(t, dir))
		return
	}
	for _, c := range []struct {
		name string
		run  func(*testing.T, Open)
	}{
		{"positions", testPositions},
		{"bad batches leave no trace", testBadBatches},
		{"epochs", testEpochs},
		{"reopen", testReopen},
		{"messages with keys", testKeys},
		{"keys at the edges of the window", testKeyWindow},
		{"channels that keep the last message", testLast},
		{"message paging", testMessagePaging},
		{"message filters", testMessageFilters},
		{"messages come back whole", testMessageWhole},
		{"messages in stream order", testAfter},
		{"large messages in stream order", testAfterLarge},
		{"tenants and hostile names", testNames},
		{"points of all kinds", testPointKinds},
		{"points at the edges of time", testPointTimes},
		{"points of equal time", testPointTies},
		{"buckets", testBuckets},
		{"buckets of mixed kinds", testBucketKinds},
		{"buckets of late and repeated points", testBucketTies},
		{"latest", testLatest},
		{"latest of a tenant", testLatestTenant},
		{"command life", testCommandLife},
		{"transitions before their command", testEarlyTransitions},
		{"command lists", testCommandLists},
		{"command events", testEvents},
		{"limits and cursors", testLimits},
		{"readers beside a writer", testConcurrent},
		{"against a model", testModel},
		{"kill -9", testCrash},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open) })
	}
}

const telemetry = "TELEMETRY"

// noon is the stream's clock at the start of every test, on a whole second.
var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// rig is a store under test and where its telemetry stream stands.
type rig struct {
	t    *testing.T
	open Open
	dir  string
	st   storage.Store
	pos  device.Position
}

func newRig(t *testing.T, open Open) *rig {
	r := &rig{t: t, open: open, dir: t.TempDir(), pos: device.Position{Epoch: 1}}
	r.st = open(t, r.dir)
	t.Cleanup(func() { r.st.Close() })
	return r
}

func (r *rig) reopen() {
	r.t.Helper()
	for range 2 {
		r.must(r.st.Close())
	}
	r.st = r.open(r.t, r.dir)
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// seal has the engine reorganise now, if it is one that does.
func (r *rig) seal() {
	r.t.Helper()
	if s, ok := r.st.(interface{ Seal(context.Context) error }); ok {
		r.must(s.Seal(r.t.Context()))
	}
}

// both runs check as it stands, after a seal, and after a reopening.
func (r *rig) both(check func()) {
	r.t.Helper()
	check()
	r.seal()
	check()
	r.reopen()
	check()
}

// put writes the messages as the stream's next batch; the stream's clock is
// the time received.
func (r *rig) put(ms ...*device.Message) {
	r.t.Helper()
	b := storage.Batch{Stream: telemetry, Epoch: r.pos.Epoch, From: r.pos.Seq, To: r.pos.Seq + uint64(len(ms))}
	for i, m := range ms {
		b.Messages = append(b.Messages, stored(r.pos.Seq+uint64(i)+1, m, m.ReceivedAt))
	}
	r.must(r.st.Write(r.t.Context(), b))
	r.pos.Seq = b.To
}

func stored(seq uint64, m *device.Message, at time.Time) storage.Message {
	return storage.Message{Seq: seq, StoredAt: at, Message: m, Body: devicepb.MarshalMessage(m)}
}

// message makes a message of tenant "t" received s seconds after noon.
func message(dev, channel string, s float64, ms ...device.Measurement) *device.Message {
	m := &device.Message{Tenant: "t", Device: dev, Channel: channel, Protocol: device.MQTT, QoS: 1, ContentType: "application/json",
		ReceivedAt: after(s), Payload: fmt.Appendf(nil, `{"s":%v}`, s), Measurements: ms}
	for i := range ms {
		if ms[i].Time.IsZero() {
			ms[i].Time = m.ReceivedAt
		}
	}
	return m
}

func after(s float64) time.Time { return noon.Add(time.Duration(s * float64(time.Second))) }

func value(name string, v device.Value) device.Measurement {
	return device.Measurement{Name: name, Value: v}
}

func valueAt(name string, v device.Value, at time.Time) device.Measurement {
	return device.Measurement{Name: name, Value: v, Time: at}
}

// seqs asks for messages and answers their sequences.
func (r *rig) seqs(q storage.MessageQuery) (seqs []uint64) {
	r.t.Helper()
	page, err := r.st.Messages(r.t.Context(), q)
	r.must(err)
	for _, m := range page.Messages {
		seqs = append(seqs, m.Position.Seq)
	}
	return seqs
}

func (r *rig) points(q storage.PointQuery) []storage.Point {
	r.t.Helper()
	q.Tenant = "t"
	if q.Limit == 0 {
		q.Limit = 1000
	}
	out, err := r.st.Points(r.t.Context(), q)
	r.must(err)
	return out
}

func (r *rig) wantErr(err, want error) {
	r.t.Helper()
	if !errors.Is(err, want) {
		r.t.Fatalf("got error %v, want %v", err, want)
	}
}

func (r *rig) wantCode(err error, want device.Code) {
	r.t.Helper()
	if err == nil || device.CodeOf(err) != want {
		r.t.Fatalf("got error %v, want one of code %v", err, want)
	}
}

// same fails with both sides in words when they differ.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n got %.2000s\nwant %.2000s", what, fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want))
	}
}
