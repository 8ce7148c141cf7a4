package sqlite

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// A sweep goes through the points of one series, newest first and each time
// once, whatever holds them: heads, chunks, and the blocks of sparse devices.
// They overlap when data came late. So everything that may hold points waits
// in one heap by the newest time that may be in it: a partition is opened into
// its spans, and a span into its points, only when the sweep gets there. What
// is in memory is the spans of one partition and the points of those spans
// that overlap.
type sweep struct {
	v            *view
	series       seriesName
	since, until int64
	heap         sweepHeap
	last         int64 // the time of the newest point given
	any          bool  // whether one was
}

type seriesName struct {
	id  device.ID
	key seriesKey
}

// source is something that holds points: not opened yet, or a run of them.
type source struct {
	end  int64 // no point in it is later
	rank int   // of equal ends the lower comes first: what is not open yet
	open func() error

	// Of points with equal time the one stored last wins: of a higher seal, and
	// in the same seal of a later block. Within a run times differ.
	seal, block int64
	points      []point // those not given yet, rising
	texts       []string
}

const (
	rankPartition = iota
	rankSpan
	rankPoints
)

type sweepHeap []*source

func (h sweepHeap) Len() int      { return len(h) }
func (h sweepHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h sweepHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	return cmp.Or(cmp.Compare(b.end, a.end), cmp.Compare(a.rank, b.rank), cmp.Compare(b.seal, a.seal), cmp.Compare(b.block, a.block)) < 0
}
func (h *sweepHeap) Push(x any) { *h = append(*h, x.(*source)) }
func (h *sweepHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}

// sweepPoints calls give with the points of a series in [since, until), newest
// first, until it answers false.
func (s *Store) sweepPoints(ctx context.Context, what string, of seriesName, since, until int64, give func(p point, texts []string) bool) error {
	return s.read(ctx, what, func(v *view) error {
		w := &sweep{v: v, series: of, since: since, until: until}
		if err := w.begin(); err != nil {
			return err
		}
		return w.run(give)
	})
}

// begin enters the heads and the partitions.
func (w *sweep) begin() error {
	for _, h := range w.v.heads {
		ps, texts := h.points(w.series.id, w.series.key)
		w.enter(h.seal, 0, lastOfEach(slices.Clone(ps)), texts)
	}
	deviceID, err := w.v.deviceID(w.series.id)
	if err != nil {
		return err
	}
	if err := w.v.eachLast(w.series.id, deviceID, &w.series.key.channel, func(seal int64, r record) error {
		return w.enterMessages(seal, math.MaxInt64, []record{r})
	}); err != nil {
		return err
	}
	row, err := w.v.one(`SELECT s.id FROM series s JOIN device d ON d.id = s.device_id
		WHERE d.tenant = ? AND d.name = ? AND s.channel = ? AND s.name = ?`,
		w.series.id.Tenant, w.series.id.Device, w.series.key.channel, w.series.key.name)
	if err != nil || row == 0 {
		return err
	}
	parts, err := w.v.parts("point", w.since, w.until)
	if err != nil {
		return err
	}
	for _, p := range parts {
		heap.Push(&w.heap, &source{end: p.max, rank: rankPartition, open: func() error { return w.openPartition(p, row) }})
	}
	return nil
}

// openPartition enters the spans that a partition holds of the series.
func (w *sweep) openPartition(p part, series int64) error {
	for _, in := range []struct {
		holding
		owner int64
		read  func(s spanRef, body []byte) error
	}{
		{heldPoints(), series, w.openChunk},
		{heldSparsePoints(), groupOf(w.series.id), w.openBlock},
	} {
		spans, err := w.v.spans(fmt.Sprintf(in.list, p.id), in.owner, w.since, w.until)
		if err != nil {
			return err
		}
		for _, s := range spans {
			heap.Push(&w.heap, &source{end: s.t1, rank: rankSpan, open: func() error {
				body, err := w.v.body(in.holding, p.id, in.owner, s)
				if err == nil {
					err = in.read(s, body)
				}
				if err != nil {
					return fmt.Errorf("partition %d, owner %d, at %d: %w", p.id, in.owner, s.t0, err)
				}
				return nil
			}})
		}
	}
	return nil
}

func (w *sweep) openChunk(s spanRef, body []byte) error {
	ps, texts, err := decodeChunk(body)
	if err == nil {
		w.enter(s.seal, s.id, ps, texts)
	}
	return err
}

// openBlock enters the points of the series among the messages of a group.
func (w *sweep) openBlock(s spanRef, body []byte) error {
	records, err := decodeBlock(body)
	if err != nil {
		return err
	}
	return w.enterMessages(s.seal, s.id, records)
}

// enterMessages adds the points of the series that stand in messages.
func (w *sweep) enterMessages(seal, block int64, records []record) error {
	var found seriesHead
	for i := range records {
		if !bytes.Contains(records[i].body, []byte(w.series.id.Device)) {
			continue
		}
		m, err := devicepb.UnmarshalMessage(records[i].body)
		if err != nil {
			return damaged(err.Error())
		}
		if m.ID() != w.series.id || m.Channel != w.series.key.channel {
			continue
		}
		for j := range m.Measurements {
			if x := &m.Measurements[j]; x.Name == w.series.key.name && x.Value.Kind() != device.KindNone {
				found.addPoint(x)
			}
		}
	}
	w.enter(seal, block, lastOfEach(found.points), found.texts)
	return nil
}

// enter adds points of rising, different times.
func (w *sweep) enter(seal, block int64, ps []point, texts []string) {
	at := func(t int64) int {
		i, _ := slices.BinarySearchFunc(ps, t, func(p point, t int64) int { return cmp.Compare(p.time, t) })
		return i
	}
	if from, to := at(w.since), at(w.until); from < to {
		heap.Push(&w.heap, &source{end: ps[to-1].time, rank: rankPoints, seal: seal, block: block, points: ps[from:to], texts: texts})
	}
}

func (w *sweep) run(give func(p point, texts []string) bool) error {
	for len(w.heap) > 0 {
		top := w.heap[0]
		if top.open != nil {
			heap.Pop(&w.heap)
			if err := top.open(); err != nil {
				return err
			}
			continue
		}
		// Alone until the next source's end; at equal times the heap decides.
		others := int64(math.MinInt64)
		for _, child := range w.heap[min(1, len(w.heap)):min(3, len(w.heap))] {
			others = max(others, child.end)
		}
		for first := true; len(top.points) > 0 && (first || top.end > others); first = false {
			if !w.any || top.end != w.last {
				w.any, w.last = true, top.end
				if !give(top.points[len(top.points)-1], top.texts) {
					return nil
				}
			}
			top.points = top.points[:len(top.points)-1]
			if n := len(top.points); n > 0 {
				top.end = top.points[n-1].time
			}
		}
		if len(top.points) == 0 {
			heap.Pop(&w.heap)
		} else {
			heap.Fix(&w.heap, 0)
		}
	}
	return w.v.ctx.Err()
}
