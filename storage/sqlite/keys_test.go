package sqlite_test

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/storage"
	"github.com/tributary-iot/tributary/storage/sqlite"
)

// feedKeyed writes messages of keys first to last at a stream time.
func feedKeyed(t *testing.T, st *sqlite.Store, first, last int, at time.Time) {
	t.Helper()
	pos, err := st.Position(t.Context(), "TELEMETRY")
	if err != nil {
		t.Fatal(err)
	}
	b := storage.Batch{Stream: "TELEMETRY", Epoch: 1, From: pos.Seq, To: pos.Seq}
	for key := first; key <= last; key++ {
		b.To++
		m := &device.Message{Tenant: "t", Device: "d", Key: fmt.Sprint("key ", key), ReceivedAt: at, Payload: fmt.Append(nil, key),
			Measurements: []device.Measurement{{Name: "v", Value: device.Int(int64(key)), Time: at.Add(time.Duration(key) * time.Millisecond)}}}
		b.Messages = append(b.Messages, storage.Message{Seq: b.To, StoredAt: at, Message: m, Body: devicepb.MarshalMessage(m)})
	}
	if err := st.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func TestKeysOutliveTheirMessages(t *testing.T) {
	var clock atomic.Pointer[time.Time]
	set := func(now time.Time) time.Time { clock.Store(&now); return now }
	set(start)
	cfg := sqlite.Config{Path: filepath.Join(t.TempDir(), "a.db"), MaxAge: time.Hour, PartitionEvery: time.Hour, Now: func() time.Time { return *clock.Load() }}
	st := open(t, cfg)
	feedKeyed(t, st, 1, 100, start)
	set(start.Add(5 * time.Hour))
	seal(t, st)
	if got := count(t, st, "d"); got != 0 {
		t.Fatalf("%d messages are left, want none: their partition was dropped", got)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	st = open(t, cfg)
	now := set(start.Add(6 * 24 * time.Hour))
	feedKeyed(t, st, 51, 150, now)
	if got, s := count(t, st, "d"), st.Stats(); got != 50 || s.Repeats != 50 || s.KeysReused != 0 {
		t.Fatalf("%d messages are stored, %d were repeated and %d keys reused, want 50, 50 and 0", got, s.Repeats, s.KeysReused)
	}
	seal(t, st)
	// A stretch ends half a window after it began at the latest, and is asked for
	// one window longer.
	for day := 7; day <= 30; day++ {
		now := set(start.Add(time.Duration(day) * 24 * time.Hour))
		feedKeyed(t, st, day*1000, day*1000+9, now)
		seal(t, st)
	}
	if n := st.KeyTables(t.Context()); n < 2 || n > 4 {
		t.Fatalf("%d tables of keys are kept of a month, want those of about one and a half weeks", n)
	}
}

func TestKeysOfOtherPayloadsAreCounted(t *testing.T) {
	st := open(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "a.db")})
	feed := func(payload string) {
		t.Helper()
		pos, err := st.Position(t.Context(), "TELEMETRY")
		if err != nil {
			t.Fatal(err)
		}
		m := &device.Message{Tenant: "t", Device: "d", Key: "k", ReceivedAt: start, Payload: []byte(payload)}
		if err := st.Write(t.Context(), storage.Batch{Stream: "TELEMETRY", Epoch: 1, From: pos.Seq, To: pos.Seq + 1,
			Messages: []storage.Message{{Seq: pos.Seq + 1, StoredAt: start, Message: m, Body: devicepb.MarshalMessage(m)}}}); err != nil {
			t.Fatal(err)
		}
	}
	for i, payload := range []string{"1", "2", "1", "3", "3"} {
		feed(payload)
		if i%2 == 0 {
			seal(t, st)
		}
	}
	if s := st.Stats(); s.Repeats != 2 || s.KeysReused != 2 || s.Messages != 3 {
		t.Fatalf("%d repeated, %d reused, %d stored, want 2, 2 and 3", s.Repeats, s.KeysReused, s.Messages)
	}
}

func TestWithoutAWindowEverythingIsStored(t *testing.T) {
	st := open(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "a.db"), DedupWindow: -1})
	feedKeyed(t, st, 1, 10, start)
	seal(t, st)
	feedKeyed(t, st, 1, 10, start.Add(time.Hour))
	seal(t, st)
	if got, n := count(t, st, "d"), st.KeyTables(t.Context()); got != 20 || n != 0 {
		t.Fatalf("%d messages and %d tables of keys, want 20 and none", got, n)
	}
}

// TestASealThatWasCommittedUnheard: the answer to a COMMIT may be an error
// though the file has it all.
func TestASealThatWasCommittedUnheard(t *testing.T) {
	st := open(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "a.db")})
	for i := range 5 {
		feed(t, st, "d", 50, start.Add(time.Duration(i)*time.Minute), time.Second)
		if err := st.SealUnheard(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := count(t, st, "d"); got != 50*(i+1) {
			t.Fatalf("%d messages before it is known, want %d", got, 50*(i+1))
		}
		seal(t, st)
		if got := count(t, st, "d"); got != 50*(i+1) {
			t.Fatalf("%d messages after, want %d", got, 50*(i+1))
		}
	}
	if s := st.Stats(); s.HotRows != 0 || s.SealErrors != 0 {
		t.Fatalf("%d rows are hot and %d seals failed, want none", s.HotRows, s.SealErrors)
	}
}
