package storagetest

import (
	"fmt"
	"testing"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// putLast writes messages of channels that keep no history as the stream's next batch.
func (r *rig) putLast(ms ...*device.Message) {
	r.t.Helper()
	b := storage.Batch{Stream: telemetry, Epoch: r.pos.Epoch, From: r.pos.Seq, To: r.pos.Seq + uint64(len(ms))}
	for i, m := range ms {
		one := stored(r.pos.Seq+uint64(i)+1, m, m.ReceivedAt)
		one.Last = true
		b.Messages = append(b.Messages, one)
	}
	r.must(r.st.Write(r.t.Context(), b))
	r.pos.Seq = b.To
}

// testLast: of a channel that keeps no history there is one message, and the
// last value of every series it ever had.
func testLast(t *testing.T, open Open) {
	r := newRig(t, open)
	state := "state"
	latest := func(dev string) (out []string) {
		values, err := r.st.Latest(t.Context(), storage.LatestQuery{Tenant: "t", Device: dev})
		r.must(err)
		for _, v := range values {
			out = append(out, fmt.Sprintf("%s/%s=%v@%d", v.Channel, v.Name, v.Value, v.Position.Seq))
		}
		return out
	}
	r.put(message("d", "", 1, value("v", device.Int(1))))
	r.putLast(
		message("d", "state", 2, value("on", device.Bool(true)), value("text", device.String("cold"))),
		message("d", "state", 3, value("on", device.Bool(false))),
		message("d", "", 4, value("v", device.Int(4))), // whose channel kept history until now
		message("other", "state", 5, value("on", device.Bool(true))),
		message("d", "mode", 6, value("m", device.Int(6))),
	)
	r.both(func() {
		same(t, "messages", r.seqs(all("d")), []uint64{1, 3, 4, 6})
		same(t, "messages of the channel", r.seqs(storage.MessageQuery{Tenant: "t", Device: "d", Channel: &state, Limit: 10}), []uint64{3})
		same(t, "messages with a value it lost", r.seqs(storage.MessageQuery{Tenant: "t", Device: "d", Name: "text", Limit: 10}), []uint64(nil))
		same(t, "messages before", r.seqs(storage.MessageQuery{Tenant: "t", Device: "d", Until: after(3), Limit: 10}), []uint64{1})
		same(t, "of another device", r.seqs(all("other")), []uint64{5})
		same(t, "points", r.points(storage.PointQuery{Device: "d", Channel: "state", Name: "on"}), []storage.Point{{Time: after(3), Value: device.Bool(false)}})
		same(t, "points it lost", len(r.points(storage.PointQuery{Device: "d", Channel: "state", Name: "text"})), 0)
		same(t, "points with a history", len(r.points(storage.PointQuery{Device: "d", Name: "v"})), 2)
		same(t, "latest", fmt.Sprint(latest("d")), "[/v=4@4 mode/m=6@6 state/on=false@3 state/text=cold@2]")
		r.wantPosition(telemetry, r.pos)
	})
	// The newest is the one stored last, whatever it says of its time.
	r.putLast(message("d", "state", 0, value("on", device.Bool(true))))
	r.both(func() {
		same(t, "after a late one", r.seqs(all("d")), []uint64{7, 1, 4, 6})
		same(t, "the value stays", fmt.Sprint(latest("d")), "[/v=4@4 mode/m=6@6 state/on=false@3 state/text=cold@2]")
	})
	testLastMany(r)
	testLastKeys(r)
}

// testLastMany: as many as there are, in one batch and in several, one is left.
func testLastMany(r *rig) {
	r.t.Helper()
	for i := range 6 {
		var ms []*device.Message
		for j := range 200 {
			ms = append(ms, message("many", "state", float64(1000*i+j), value("n", device.Int(int64(1000*i+j)))))
		}
		r.putLast(ms...)
		if i%2 == 0 {
			r.seal()
		}
	}
	r.both(func() {
		same(r.t, "one of many", r.seqs(all("many")), []uint64{r.pos.Seq})
		same(r.t, "its point", r.points(storage.PointQuery{Device: "many", Channel: "state", Name: "n"}), []storage.Point{{Time: after(5199), Value: device.Int(5199)}})
	})
	r.pos = device.Position{Epoch: r.pos.Epoch + 1}
	r.putLast(message("many", "state", 1, value("n", device.Int(1))))
	r.both(func() { same(r.t, "one of a new epoch", r.seqs(all("many")), []uint64{1}) })
}

// testLastKeys: a repetition under a key is not the newest message.
func testLastKeys(r *rig) {
	r.t.Helper()
	r.putLast(withKey("k", "a", "1", 1), withKey("k", "b", "2", 2))
	r.both(func() {
		r.putLast(withKey("k", "a", "1", 3))
		same(r.t, "after a repetition", r.payloads("k"), []string{"2"})
	})
}
