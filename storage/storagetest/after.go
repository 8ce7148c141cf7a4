package storagetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// inOrder reads a tenant's messages after a position in pages, to the end.
func (r *rig) inOrder(q storage.AfterQuery) (all []device.Stored) {
	r.t.Helper()
	for {
		page, err := r.st.After(r.t.Context(), q)
		r.must(err)
		if len(page) == 0 {
			return all
		}
		if len(page) > q.Limit {
			r.t.Fatalf("%+v answers %d messages", q, len(page))
		}
		all, q.After = append(all, page...), page[len(page)-1].Position
	}
}

// testAfter: in stream order whatever the times and devices, across seals and
// epochs, each once.
func testAfter(t *testing.T, open Open) {
	r := newRig(t, open)
	var want []device.Position
	r.both(func() { same(t, "messages of nobody", len(r.inOrder(storage.AfterQuery{Tenant: "t", Limit: 5})), 0) })
	for i := range 240 {
		if i == 90 || i == 199 {
			r.pos = device.Position{Epoch: r.pos.Epoch + 1}
		}
		m := message(fmt.Sprint("d", i*i%7), "", float64(i/40%3)*4000+float64(i%13)) // hours apart, to and fro
		if i%5 == 4 {
			m.Tenant = "other"
		}
		if i%40 < 20 { // one that sends a lot
			m.Device = "busy"
		}
		r.put(m)
		if m.Tenant == "t" {
			want = append(want, r.pos)
		}
		if i%90 == 89 {
			r.seal()
		}
	}
	r.both(func() {
		for _, limit := range []int{41, 10_000} {
			for _, after := range []int{0, 71, 75, 160, len(want)} {
				q := storage.AfterQuery{Tenant: "t", Limit: limit}
				if after > 0 {
					q.After = want[after-1]
				}
				if after < len(want) { // one page of one: pages begin where they should
					one, err := r.st.After(t.Context(), storage.AfterQuery{Tenant: q.Tenant, After: q.After, Limit: 1})
					r.must(err)
					same(t, "the next", []device.Position{one[0].Position}, want[after:after+1])
				}
				var got []device.Position
				for _, m := range r.inOrder(q) {
					got = append(got, m.Position)
				}
				same(t, fmt.Sprintf("pages of %d after %v", limit, q.After), append([]device.Position{}, got...), append([]device.Position{}, want[after:]...))
			}
		}
	})
	_, err := r.st.After(t.Context(), storage.AfterQuery{Tenant: "t", Limit: 0})
	r.wantCode(err, device.Invalid)
}

// testAfterLarge: what is large comes in small pages, and what is too large for
// any comes alone.
func testAfterLarge(t *testing.T, open Open) {
	r := newRig(t, open)
	for i := range 30 {
		m := message("d", "", float64(i))
		m.Payload = []byte(strings.Repeat("x", 1<<20))
		if i == 11 {
			m.Payload = slices.Repeat(m.Payload, 10)
		}
		r.put(m)
	}
	r.both(func() {
		got := r.inOrder(storage.AfterQuery{Tenant: "t", Limit: 1000})
		same(t, "messages", len(got), 30)
		for i, m := range got {
			same(t, "order", m.Position.Seq, uint64(i+1))
		}
	})
}

// compareAfter asks for a random stretch, in pages.
func (w *work) compareAfter() {
	w.t.Helper()
	q := storage.AfterQuery{Tenant: w.pick("t", "u"), Limit: 50 + w.rnd.IntN(500)}
	if len(w.rows) > 0 && w.rnd.IntN(4) > 0 {
		q.After = w.rows[w.rnd.IntN(len(w.rows))].Position
	}
	var want []device.Stored
	for _, row := range w.rows {
		if !row.passed && row.Tenant == q.Tenant && q.After.Before(row.Position) {
			want = append(want, row.Stored)
		}
	}
	same(w.t, fmt.Sprintf("%+v", q), append([]device.Stored{}, w.inOrder(q)...), append([]device.Stored{}, want...))
}
