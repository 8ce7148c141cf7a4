package storagetest

import (
	"errors"
	"os"
	"testing"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

func (r *rig) wantPosition(stream string, want device.Position) {
	r.t.Helper()
	got, err := r.st.Position(r.t.Context(), stream)
	r.must(err)
	same(r.t, "position of "+stream, got, want)
}

func all(dev string) storage.MessageQuery {
	return storage.MessageQuery{Tenant: "t", Device: dev, Limit: 10_000}
}

func testPositions(t *testing.T, open Open) {
	r := newRig(t, open)
	write := func(epoch, from, to uint64, seqs ...uint64) error {
		b := storage.Batch{Stream: telemetry, Epoch: epoch, From: from, To: to}
		for _, seq := range seqs {
			b.Messages = append(b.Messages, stored(seq, message("d", "", float64(min(seq, 99)), value("v", device.Int(int64(seq)))), after(99)))
		}
		return r.st.Write(t.Context(), b)
	}
	r.wantPosition(telemetry, device.Position{})
	r.wantErr(write(0, 5, 9, 6), storage.ErrPosition)
	r.must(write(1, 0, 10, 3, 7)) // gaps are normal
	r.wantErr(write(1, 0, 10, 3, 7), storage.ErrPosition)
	r.wantErr(write(1, 9, 11, 11), storage.ErrPosition)
	r.wantErr(write(1, 11, 12, 12), storage.ErrPosition)
	r.wantErr(write(0, 10, 12, 12), storage.ErrEpoch)
	r.wantErr(write(2, 10, 12, 12), storage.ErrPosition) // a new epoch begins at 0
	r.must(write(1, 10, 20))                             // no row at all
	r.must(write(1, 20, 20))                             // nothing, in the right place
	r.wantErr(write(1, 10, 10), storage.ErrPosition)
	r.must(write(1, 20, 1<<40, 1<<40))
	r.wantPosition(telemetry, device.Position{Epoch: 1, Seq: 1 << 40})
	r.wantPosition("OTHER", device.Position{})
	r.must(r.st.Write(t.Context(), storage.Batch{Stream: "OTHER", Epoch: 4, From: 0, To: 6}))
	r.both(func() {
		r.wantPosition(telemetry, device.Position{Epoch: 1, Seq: 1 << 40})
		r.wantPosition("OTHER", device.Position{Epoch: 4, Seq: 6})
		same(t, "stored once", r.seqs(storage.MessageQuery{Tenant: "t", Device: "d", Limit: 10}), []uint64{3, 7, 1 << 40})
	})
}

func testBadBatches(t *testing.T, open Open) {
	r := newRig(t, open)
	r.put(message("d", "", 1, value("v", device.Int(1))))
	good := stored(2, message("d", "", 2, value("v", device.Int(2))), after(2))
	batch := func(ms ...storage.Message) storage.Batch {
		return storage.Batch{Stream: telemetry, Epoch: 1, From: 1, To: 3, Messages: ms}
	}
	var bad *storage.BadMessage
	for name, m := range map[string]storage.Message{
		"no message": {Seq: 3, StoredAt: noon},
		"no device":  stored(3, message("", "", 3), noon),
	} {
		err := r.st.Write(t.Context(), batch(good, m))
		if !errors.As(err, &bad) || bad.Seq != 3 || device.CodeOf(err) != device.Invalid {
			t.Fatalf("%s: got %v, want a BadMessage of sequence 3 and code invalid", name, err)
		}
	}
	for name, b := range map[string]storage.Batch{
		"order":   batch(stored(3, message("d", "", 3), noon), stored(2, message("d", "", 2), noon)),
		"twice":   batch(good, good),
		"before":  batch(stored(1, message("d", "", 1), noon)),
		"after":   batch(stored(4, message("d", "", 4), noon)),
		"inside":  {Stream: telemetry, Epoch: 1, From: 3, To: 1},
		"no name": {Epoch: 1, From: 0, To: 1},
	} {
		if err := r.st.Write(t.Context(), b); err == nil {
			t.Fatalf("%s: the batch was taken", name)
		}
	}
	r.both(func() {
		r.wantPosition(telemetry, device.Position{Epoch: 1, Seq: 1})
		same(t, "messages", r.seqs(all("d")), []uint64{1})
		same(t, "points", len(r.points(storage.PointQuery{Device: "d", Name: "v"})), 1)
	})
	r.must(r.st.Write(t.Context(), batch(good)))
	same(t, "messages", r.seqs(all("d")), []uint64{1, 2})
}

func testEpochs(t *testing.T, open Open) {
	r := newRig(t, open)
	at := 0.0
	fill := func(n int) {
		for range n {
			at++
			r.put(message("d", "", at, value("v", device.Int(int64(at)))))
		}
	}
	fill(40)
	r.seal()
	fill(10)
	for epoch := uint64(2); epoch <= 4; epoch++ {
		r.pos = device.Position{Epoch: epoch}
		fill(30)
		err := r.st.Write(t.Context(), storage.Batch{Stream: telemetry, Epoch: epoch - 1, From: 50, To: 60})
		r.wantErr(err, storage.ErrEpoch)
	}
	r.both(func() {
		page, err := r.st.Messages(t.Context(), all("d"))
		r.must(err)
		same(t, "messages", len(page.Messages), 140)
		for i, m := range page.Messages {
			want := device.Position{Epoch: 1, Seq: uint64(i + 1)}
			if i >= 50 {
				want = device.Position{Epoch: uint64(2 + (i-50)/30), Seq: uint64((i-50)%30 + 1)}
			}
			same(t, "position", m.Position, want)
		}
		same(t, "points", len(r.points(storage.PointQuery{Device: "d", Name: "v"})), 140)
	})
	// The same received time: an older epoch comes first.
	r.put(message("e", "", 7))
	r.pos = device.Position{Epoch: 9}
	r.put(message("e", "", 7))
	r.both(func() {
		page, err := r.st.Messages(t.Context(), all("e"))
		r.must(err)
		same(t, "order of epochs", []uint64{page.Messages[0].Position.Epoch, page.Messages[1].Position.Epoch}, []uint64{4, 9})
	})
}

func testReopen(t *testing.T, open Open) {
	r := newRig(t, open)
	want := []uint64{}
	for i := range 60 {
		r.put(message("d", "", float64(i), value("v", device.Int(int64(i)))), message("d", "x", float64(i), value("v", device.Int(-1))))
		want = append(want, uint64(2*i+1), uint64(2*i+2))
		if i%20 == 7 {
			r.reopen()
		}
		if i%20 == 13 {
			r.seal()
		}
		same(t, "messages", r.seqs(all("d")), want)
		same(t, "points", len(r.points(storage.PointQuery{Device: "d", Name: "v"})), i+1)
	}
	// The folder as a crash would leave it: copied while the store is open.
	copied := t.TempDir()
	r.must(os.CopyFS(copied, os.DirFS(r.dir)))
	old := r.st
	r.st, r.dir = open(t, copied), copied
	defer old.Close()
	r.wantPosition(telemetry, device.Position{Epoch: 1, Seq: 120})
	same(t, "messages in the copy", r.seqs(all("d")), want)
	same(t, "points in the copy", len(r.points(storage.PointQuery{Device: "d", Name: "v"})), 60)
}
