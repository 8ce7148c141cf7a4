package storagetest

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

func testMessagePaging(t *testing.T, open Open) {
	r := newRig(t, open)
	const n = 137
	for i := range n {
		// Three of a kind have the same received time, and the clock steps back now and then.
		at := float64(i / 3)
		if i%20 == 19 {
			at -= 5
		}
		r.put(message("d", "", at), message("other", "", at))
		if i%50 == 49 {
			r.seal()
		}
	}
	r.both(func() {
		for _, limit := range []int{1, 2, 7, 50, n - 1, n, n + 1} {
			q := storage.MessageQuery{Tenant: "t", Device: "d", Limit: limit}
			var pages [][]device.Stored
			for {
				page, err := r.st.Messages(t.Context(), q)
				r.must(err)
				pages = append(pages, page.Messages)
				if q.Cursor = page.Next; q.Cursor == "" {
					break
				}
				same(t, "size of a full page", len(page.Messages), limit)
			}
			var got []device.Stored
			for i := len(pages) - 1; i >= 0; i-- {
				got = append(got, pages[i]...)
			}
			same(t, fmt.Sprintf("messages in pages of %d", limit), len(got), n)
			for i := 1; i < n; i++ {
				a, b := got[i-1], got[i]
				if b.ReceivedAt.Before(a.ReceivedAt) || b.ReceivedAt.Equal(a.ReceivedAt) && !a.Position.Before(b.Position) {
					t.Fatalf("pages of %d: %v at %v comes before %v at %v", limit, a.Position, a.ReceivedAt, b.Position, b.ReceivedAt)
				}
			}
		}
	})
}

func testMessageFilters(t *testing.T, open Open) {
	r := newRig(t, open)
	room, empty := "room", ""
	r.put(
		message("d", "", 1, value("a", device.Int(1)), value("b", device.Int(2))),
		message("d", "room", 2, value("a", device.Int(3))),
		message("d", "room/1", 3, value("b", device.Int(4))),
		message("d", "room", 4),
		message("e", "room", 5, value("a", device.Int(5))),
	)
	r.seal()
	r.put(message("d", "room", 6, value("b", device.Int(6)), value("a", device.Int(7)), value("a", device.Int(8))))
	r.both(func() {
		for name, c := range map[string]struct {
			q    storage.MessageQuery
			want []uint64
		}{
			"all":              {storage.MessageQuery{}, []uint64{1, 2, 3, 4, 6}},
			"channel":          {storage.MessageQuery{Channel: &room}, []uint64{2, 4, 6}},
			"main channel":     {storage.MessageQuery{Channel: &empty}, []uint64{1}},
			"name":             {storage.MessageQuery{Name: "a"}, []uint64{1, 2, 6}},
			"channel and name": {storage.MessageQuery{Channel: &room, Name: "b"}, []uint64{6}},
			"no such name":     {storage.MessageQuery{Name: "c"}, nil},
			"since":            {storage.MessageQuery{Since: after(3)}, []uint64{3, 4, 6}},
			"until":            {storage.MessageQuery{Until: after(3)}, []uint64{1, 2}},
			"window":           {storage.MessageQuery{Since: after(2), Until: after(4)}, []uint64{2, 3}},
			"empty window":     {storage.MessageQuery{Since: after(4), Until: after(4)}, nil},
			"newest two":       {storage.MessageQuery{Limit: 2}, []uint64{4, 6}},
			"newest by name":   {storage.MessageQuery{Limit: 2, Name: "a"}, []uint64{2, 6}},
		} {
			c.q.Tenant, c.q.Device = "t", "d"
			if c.q.Limit == 0 {
				c.q.Limit = 100
			}
			same(t, name, r.seqs(c.q), c.want)
		}
		page, err := r.st.Messages(t.Context(), storage.MessageQuery{Tenant: "t", Device: "d", Name: "a", Limit: 1})
		r.must(err)
		same(t, "measurements that were asked for", page.Messages[0].Measurements, []device.Measurement{
			valueAt("a", device.Int(7), after(6)), valueAt("a", device.Int(8), after(6))})
	})
}

func testMessageWhole(t *testing.T, open Open) {
	r := newRig(t, open)
	m := &device.Message{Tenant: "t", Device: "d", Via: "gw", Channel: "a//b", Key: "k-1", Protocol: device.AMQP, QoS: 1,
		ContentType: "application/octet-stream", CreatedAt: after(-86400), ReceivedAt: after(1).Add(123456789 * time.Nanosecond),
		Properties: map[string]string{"p": "1", "q": ""}, Payload: []byte{0, 1, 0xff, '\n'},
		Measurements: []device.Measurement{
			{Name: "x", Unit: "°C", Time: after(-5), Value: device.Double(21.5)},
			{Name: "y", Time: after(1), Value: device.Bytes([]byte{0, 0xfe})},
		}}
	large := message("d", "", 2)
	large.Payload = make([]byte, 1<<20)
	for i := range large.Payload {
		large.Payload[i] = byte(i * i >> 7)
	}
	none := message("d", "", 3)
	none.Payload, none.ContentType, none.QoS = nil, "", 0
	r.put(m, large, none)
	at := after(1).Add(5 * time.Hour)
	r.must(r.st.Write(t.Context(), storage.Batch{Stream: telemetry, Epoch: 1, From: 3, To: 9,
		Messages: []storage.Message{stored(8, message("d", "", 4), at)}}))
	r.both(func() {
		page, err := r.st.Messages(t.Context(), all("d"))
		r.must(err)
		same(t, "how many", len(page.Messages), 4)
		for i, want := range []*device.Message{m, large, none} {
			if got := page.Messages[i].Message; !reflect.DeepEqual(got, *want) {
				t.Fatalf("message %d came back as\n%.300s, was\n%.300s", i, fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", *want))
			}
		}
		same(t, "position", page.Messages[3].Position, device.Position{Epoch: 1, Seq: 8})
		same(t, "the stream's time", page.Messages[3].StoredAt, at)
		page.Messages[0].Payload[0] = 99 // what is answered belongs to the caller
		page, err = r.st.Messages(t.Context(), all("d"))
		r.must(err)
		same(t, "payload after a caller changed its copy", page.Messages[0].Payload, m.Payload)
	})
}

func testNames(t *testing.T, open Open) {
	r := newRig(t, open)
	names := []string{"d", "D", "d ", " d", "d%", "d_", "%", "_", "d'", `d"`, "d';DROP TABLE device;--", "d.e", "*", ">", "é", "e\u0301",
		"日本", "🌡", "[a-z]", `\`, "NULL", "1", "01", "-1", "1e0"}
	for i, name := range names {
		for j, tenant := range []string{"t", "T", name} {
			m := message(name, "", float64(i), value(name, device.Int(int64(3*i+j))))
			m.Tenant = tenant
			if device.ValidateChannel(name) == nil {
				m.Channel = name
			}
			r.put(m)
		}
		if i == len(names)/2 {
			r.seal()
		}
	}
	r.both(func() {
		for i, name := range names {
			for j, tenant := range []string{"t", "T", name} {
				seq := uint64(3*i + j + 1)
				got := r.seqs(storage.MessageQuery{Tenant: tenant, Device: name, Channel: &name, Name: name, Limit: 10})
				same(t, fmt.Sprintf("messages of %q in tenant %q", name, tenant), got, []uint64{seq})
				ps, err := r.st.Points(t.Context(), storage.PointQuery{Tenant: tenant, Device: name, Channel: name, Name: name, Limit: 10})
				r.must(err)
				same(t, fmt.Sprintf("points of %q in tenant %q", name, tenant), ps, []storage.Point{{Time: after(float64(i)), Value: device.Int(int64(seq - 1))}})
				last, err := r.st.Latest(t.Context(), storage.LatestQuery{Tenant: tenant, Device: name})
				r.must(err)
				same(t, fmt.Sprintf("latest of %q in tenant %q", name, tenant), len(last), 1)
			}
		}
		same(t, "of an unknown tenant", r.seqs(storage.MessageQuery{Tenant: "nobody", Device: "d", Limit: 10}), []uint64(nil))
	})
}

func testLimits(t *testing.T, open Open) {
	r := newRig(t, open)
	r.put(message("d", "", 1, value("v", device.Int(1))))
	ctx := t.Context()
	for _, limit := range []int{-1, 0, 10_001} {
		_, err := r.st.Messages(ctx, storage.MessageQuery{Tenant: "t", Device: "d", Limit: limit})
		r.wantCode(err, device.Invalid)
		_, err = r.st.Points(ctx, storage.PointQuery{Tenant: "t", Device: "d", Name: "v", Limit: limit * 10})
		r.wantCode(err, device.Invalid)
		_, err = r.st.Commands(ctx, storage.CommandQuery{Tenant: "t", Limit: limit})
		r.wantCode(err, device.Invalid)
		_, err = r.st.Latest(ctx, storage.LatestQuery{Tenant: "t", Limit: limit})
		r.wantCode(err, device.Invalid)
		_, err = r.st.Events(ctx, storage.EventQuery{Tenant: "t", Stream: commandEvents, Limit: limit})
		r.wantCode(err, device.Invalid)
	}
	for _, cursor := range []string{"x", "!!", "AAAA'", "////"} {
		_, err := r.st.Messages(ctx, storage.MessageQuery{Tenant: "t", Device: "d", Limit: 1, Cursor: cursor})
		r.wantCode(err, device.Invalid)
		_, err = r.st.Commands(ctx, storage.CommandQuery{Tenant: "t", Limit: 1, Cursor: cursor})
		r.wantCode(err, device.Invalid)
	}
	_, err := r.st.Command(ctx, "t", "", "nothing")
	r.wantCode(err, device.NotFound)
}
