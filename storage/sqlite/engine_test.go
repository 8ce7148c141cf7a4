package sqlite_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/storage"
	"github.com/tributary-iot/tributary/storage/sqlite"
)

var start = time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC)

// feed writes n messages of one device, step apart from at, as the stream's next.
func feed(t *testing.T, st *sqlite.Store, dev string, n int, at time.Time, step time.Duration) {
	t.Helper()
	pos, err := st.Position(t.Context(), "TELEMETRY")
	if err != nil {
		t.Fatal(err)
	}
	b := storage.Batch{Stream: "TELEMETRY", Epoch: 1, From: pos.Seq, To: pos.Seq + uint64(n)}
	for i := range n {
		m := &device.Message{Tenant: "t", Device: dev, ReceivedAt: at.Add(time.Duration(i) * step), Payload: []byte(fmt.Sprintf(`{"v":%d}`, i)),
			Measurements: []device.Measurement{{Name: "v", Value: device.Int(int64(i)), Time: at.Add(time.Duration(i) * step)}}}
		b.Messages = append(b.Messages, storage.Message{Seq: b.From + uint64(i) + 1, StoredAt: m.ReceivedAt, Message: m, Body: devicepb.MarshalMessage(m)})
	}
	if err := st.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// feedLast writes n messages of a channel that keeps no history.
func feedLast(t *testing.T, st *sqlite.Store, dev string, n int) {
	t.Helper()
	pos, err := st.Position(t.Context(), "TELEMETRY")
	if err != nil {
		t.Fatal(err)
	}
	b := storage.Batch{Stream: "TELEMETRY", Epoch: 1, From: pos.Seq, To: pos.Seq + uint64(n)}
	for i := range n {
		m := &device.Message{Tenant: "t", Device: dev, ReceivedAt: start, Payload: make([]byte, 100),
			Measurements: []device.Measurement{{Name: "v", Value: device.String(fmt.Sprint(i)), Time: start}}}
		b.Messages = append(b.Messages, storage.Message{Seq: b.From + uint64(i) + 1, StoredAt: start, Message: m, Body: devicepb.MarshalMessage(m), Last: true})
	}
	if err := st.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// TestLastMessagesTakeNoRoom: a channel that keeps no history takes memory and
// pages for one message, and retention does not drop it.
func TestLastMessagesTakeNoRoom(t *testing.T) {
	st := open(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "t.db"), MaxAge: time.Hour})
	for range 10 {
		feedLast(t, st, "d", 2000)
	}
	if s := st.Stats(); s.HotRows != 20_000 || s.HotBytes > 4000 {
		t.Errorf("%d messages in memory take %d bytes", s.HotRows, s.HotBytes)
	}
	seal(t, st)
	if s := st.Stats(); s.HotRows != 0 || s.FileBytes > 400<<10 || s.Partitions != 0 {
		t.Errorf("once sealed: %+v", s)
	}
	if n := count(t, st, "d"); n != 1 {
		t.Errorf("%d messages are there", n)
	}
}

// TestAFileOfSchema2 is brought up to date, with what was hot in it.
func TestAFileOfSchema2(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	st := open(t, sqlite.Config{Path: path})
	feed(t, st, "d", 100, start, time.Second)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`ALTER TABLE hot DROP COLUMN last; DROP TABLE last_message; PRAGMA user_version = 2`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	st = open(t, sqlite.Config{Path: path})
	feed(t, st, "d", 100, start.Add(time.Hour), time.Second)
	feedLast(t, st, "e", 10)
	if n := count(t, st, "d"); n != 200 {
		t.Errorf("%d messages are there, of 200", n)
	}
	seal(t, st)
	if d, e := count(t, st, "d"), count(t, st, "e"); d != 200 || e != 1 {
		t.Errorf("%d and %d messages are there once sealed", d, e)
	}
}

func count(t *testing.T, st *sqlite.Store, dev string) int {
	t.Helper()
	page, err := st.Messages(t.Context(), storage.MessageQuery{Tenant: "t", Device: dev, Limit: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	points, err := st.Points(t.Context(), storage.PointQuery{Tenant: "t", Device: dev, Name: "v", Limit: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	if len(points) != len(page.Messages) && page.Next == "" {
		t.Fatalf("%d messages and %d points", len(page.Messages), len(points))
	}
	return len(points)
}

func seal(t *testing.T, st *sqlite.Store) {
	t.Helper()
	if err := st.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestRetentionByAge(t *testing.T) {
	var now atomic.Int64
	after := func(d time.Duration) { now.Store(start.Add(d).UnixNano()) }
	after(0)
	cfg := sqlite.Config{Path: filepath.Join(t.TempDir(), "a.db"), MaxAge: 72 * time.Hour, Now: func() time.Time { return time.Unix(0, now.Load()) }}
	st := open(t, cfg)
	feed(t, st, "d", 10*24, start, time.Hour) // ten days
	after(5*24*time.Hour + time.Minute)
	if got := count(t, st, "d"); got != 240 {
		t.Fatalf("%d messages while hot, want all 240: hot rows are never dropped", got)
	}
	seal(t, st)
	if got := count(t, st, "d"); got != 8*24 { // days 0 and 1 ended three days ago
		t.Fatalf("%d messages are left, want %d", got, 8*24)
	}
	if s := st.Stats(); s.PartitionsDropped != 2 || s.Partitions != 8 {
		t.Fatalf("%d partitions dropped and %d left, want 2 and 8", s.PartitionsDropped, s.Partitions)
	}
	after(100 * 24 * time.Hour)
	seal(t, st)
	if got := count(t, st, "d"); got != 0 {
		t.Fatalf("%d messages are left, want none", got)
	}
	if last, err := st.Latest(t.Context(), storage.LatestQuery{Tenant: "t", Device: "d"}); err != nil || len(last) != 1 {
		t.Fatalf("the last value of a silent device: %v, %v", last, err)
	}
}

func TestRetentionOfCommands(t *testing.T) {
	t.Run("as old as rows", func(t *testing.T) { retainCommands(t, sqlite.Config{MaxAge: time.Hour}, true) })
	t.Run("an age of their own", func(t *testing.T) { retainCommands(t, sqlite.Config{CommandMaxAge: time.Hour}, true) })
	t.Run("longer than rows", func(t *testing.T) {
		retainCommands(t, sqlite.Config{MaxAge: time.Hour, CommandMaxAge: 3 * time.Hour}, false)
	})
	t.Run("for ever", func(t *testing.T) { retainCommands(t, sqlite.Config{}, false) })
}

func retainCommands(t *testing.T, cfg sqlite.Config, dropped bool) {
	now := start
	cfg.Path, cfg.Now = filepath.Join(t.TempDir(), "a.db"), func() time.Time { return now }
	st := open(t, cfg)
	write := func(stream string, seq uint64, e device.CommandEvent) {
		t.Helper()
		e.Tenant, e.Device, e.At = "t", "d", start
		err := st.Write(t.Context(), storage.Batch{Stream: stream, Epoch: 1, From: seq - 1, To: seq,
			Events: []device.StoredEvent{{CommandEvent: e, Position: device.Position{Epoch: 1, Seq: seq}, StoredAt: now}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	request := func(id string) device.CommandEvent {
		return device.CommandEvent{Command: id, State: device.StateQueued, Request: &device.Command{ID: id, Tenant: "t", Device: "d", CreatedAt: start, Deadline: start}}
	}
	write("COMMANDS", 1, request("old"))
	write("COMMANDS", 2, request("lively"))
	write("COMMANDS", 3, request("waiting"))
	write("COMMAND_EVENTS", 1, device.CommandEvent{Command: "old", State: device.StateExpired})
	now = start.Add(2 * time.Hour)
	write("COMMAND_EVENTS", 2, device.CommandEvent{Command: "lively", State: device.StateCancelled})
	seal(t, st)
	if _, err := st.Command(t.Context(), "t", "", "old"); dropped != (device.CodeOf(err) == device.NotFound && err != nil) {
		t.Fatalf("the old command: %v", err)
	}
	if rec, err := st.Command(t.Context(), "t", "", "waiting"); err != nil || len(rec.Events) != 1 {
		t.Fatalf("a command that waits: %v, %v", rec, err)
	}
	rec, err := st.Command(t.Context(), "t", "", "lively")
	if err != nil || len(rec.Events) != 2 {
		t.Fatalf("the command that lives: %v, %v", rec, err)
	}
}

func TestRetentionByBytes(t *testing.T) {
	const most = 1 << 20
	st := open(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "a.db"), MaxBytes: most})
	for i := range 40 { // all within one day: partitions are cut by size too
		feed(t, st, fmt.Sprintf("d%d", i%3), 5000, start.Add(time.Duration(i)*time.Minute), time.Millisecond)
		seal(t, st)
	}
	s := st.Stats()
	if s.FileBytes > most || s.PartitionsDropped == 0 {
		t.Fatalf("%d bytes are used after %d drops, want at most %d", s.FileBytes, s.PartitionsDropped, most)
	}
	if s.FileBytes < most/3 {
		t.Fatalf("%d bytes are used of %d: too much was dropped", s.FileBytes, most)
	}
	if got := count(t, st, "d0"); got < 5000 {
		t.Fatalf("%d of the newest messages are left", got)
	}
}

func TestOpeningAgainFencesTheOlderStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	old := open(t, sqlite.Config{Path: path})
	feed(t, old, "d", 20, start, time.Second)
	st := open(t, sqlite.Config{Path: path})
	feed(t, st, "d", 20, start.Add(time.Minute), time.Second)
	err := old.Write(t.Context(), storage.Batch{Stream: "TELEMETRY", Epoch: 1, From: 40, To: 41})
	if err == nil || !strings.Contains(err.Error(), "owns it now") {
		t.Fatalf("the older store's write: %v", err)
	}
	if err := old.Seal(t.Context()); err == nil {
		t.Fatal("the older store sealed")
	}
	seal(t, st)
	if got := count(t, st, "d"); got != 40 {
		t.Fatalf("%d messages, want 40", got)
	}
}

func TestHeadsAreReadAgainAfterAnUnknownCommit(t *testing.T) {
	st := open(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "a.db"), SealMessages: 70})
	for i := range 20 {
		feed(t, st, "d", 25, start.Add(time.Duration(i)*time.Minute), time.Second)
		st.Forget()
	}
	if got := count(t, st, "d"); got != 500 {
		t.Fatalf("%d messages, want 500", got)
	}
	seal(t, st)
	if got := count(t, st, "d"); got != 500 {
		t.Fatalf("%d messages after a seal, want 500", got)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	const most = 1 << 20
	// Seals by time all along: they must never wait for a Write that waits for them.
	st := open(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "a.db"), SealBytes: most, SealEvery: time.Millisecond})
	for i := range 200 {
		feed(t, st, fmt.Sprintf("d%d", i), 500, start.Add(time.Duration(i)*time.Minute), time.Second)
		if s := st.Stats(); s.HotBytes > 3*most {
			t.Fatalf("%d bytes are held, the bound is about %d", s.HotBytes, 2*most)
		}
	}
}

func TestDamagedFileIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	st := open(t, sqlite.Config{Path: path})
	feed(t, st, "d", 100, start, time.Second)
	seal(t, st)
	feed(t, st, "d", 100, start.Add(time.Hour), time.Second)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	damage := func(query string) {
		t.Helper()
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	damage(`UPDATE msgblock_1 SET body = substr(body, 1, 50); UPDATE chunk_1 SET body = substr(body, 1, 20)`)
	st = open(t, sqlite.Config{Path: path})
	if _, err := st.Messages(t.Context(), storage.MessageQuery{Tenant: "t", Device: "d", Limit: 1000}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Fatalf("messages: %v", err)
	}
	if _, err := st.Points(t.Context(), storage.PointQuery{Tenant: "t", Device: "d", Name: "v", Limit: 1000}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Fatalf("points: %v", err)
	}
	if page, err := st.Messages(t.Context(), storage.MessageQuery{Tenant: "t", Device: "d", Limit: 50}); err != nil || len(page.Messages) != 50 {
		t.Fatalf("messages that are not damaged: %d, %v", len(page.Messages), err)
	}
	st.Close()
	damage(`UPDATE hot SET body = substr(body, 1, 50)`)
	if _, err := sqlite.Open(sqlite.Config{Path: path}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Fatalf("open: %v", err)
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte("not a database. "), 512), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(sqlite.Config{Path: path}); err == nil {
		t.Fatal("a file that is no database was opened")
	}
}

func TestNewerSchemaIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	open(t, sqlite.Config{Path: path}).Close()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`PRAGMA user_version = 99`); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(sqlite.Config{Path: path}); err == nil || !strings.Contains(err.Error(), "newer release") {
		t.Fatalf("open: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, cfg := range []sqlite.Config{{}, {Path: filepath.Join(t.TempDir(), "a.db"), Synchronous: "OFF"}} {
		if _, err := sqlite.Open(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}

func TestMetricsAndStats(t *testing.T) {
	reg := prometheus.NewRegistry()
	cfg := sqlite.Config{Path: filepath.Join(t.TempDir(), "a.db"), Registerer: reg}
	st := open(t, cfg)
	feed(t, st, "d", 100, start, time.Second)
	seal(t, st)
	feed(t, st, "d", 30, start.Add(time.Hour), time.Second)
	count(t, st, "d")
	s := st.Stats()
	if s.Messages != 130 || s.Sealed != 100 || s.Seals != 1 || s.HotRows != 30 || s.Partitions != 1 || s.FileBytes == 0 || s.HotBytes == 0 {
		t.Fatalf("stats: %+v", s)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			values[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{"tributary_store_messages_total": 130, "tributary_store_sealed_messages_total": 100,
		"tributary_store_hot_messages": 30, "tributary_store_seal_seconds": 1, "tributary_store_write_seconds": 2, "tributary_store_read_seconds": 2} {
		if values[name] != want {
			t.Errorf("%s is %v, want %v", name, values[name], want)
		}
	}
	st.Close()
	open(t, cfg) // the same registry takes the next store's metrics
}

func TestClosedStoreSaysSo(t *testing.T) {
	st := open(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "a.db")})
	st.Close()
	if err := st.Write(t.Context(), storage.Batch{Stream: "S", Epoch: 1}); device.CodeOf(err) != device.Unavailable {
		t.Fatalf("write: %v", err)
	}
	if _, err := st.Latest(t.Context(), storage.LatestQuery{Tenant: "t", Device: "d"}); device.CodeOf(err) != device.Unavailable {
		t.Fatalf("latest: %v", err)
	}
	if err := st.Seal(t.Context()); device.CodeOf(err) != device.Unavailable {
		t.Fatalf("seal: %v", err)
	}
}
