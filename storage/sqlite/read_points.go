package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/storage"
)

// Points answers the values of one series, oldest first, the newest q.Limit.
func (s *Store) Points(ctx context.Context, q storage.PointQuery) ([]storage.Point, error) {
	if err := checkLimit(q.Limit, 100_000); err != nil {
		return nil, err
	}
	c := &pointCollector{want: q.Limit, sorted: true}
	c.since, c.until = window(q.Since, q.Until)
	err := s.read(ctx, "points", func(v *view) error { return c.collect(v, &q) })
	if err != nil {
		return nil, err
	}
	c.trim()
	out := make([]storage.Point, len(c.found))
	for i, p := range c.found {
		out[i] = storage.Point{Time: fromMicros(p.time), Value: p.value}
	}
	return out, nil
}

// pointCollector gathers the newest points with different times.
type pointCollector struct {
	want         int
	since, until int64
	found        []foundPoint
	sorted       bool
}

type foundPoint struct {
	time  int64
	seal  int64           // of equal times the highest seal was stored last,
	pos   device.Position // then the highest position (zero from heads and chunks, which keep one of equal times)
	value device.Value
}

func (c *pointCollector) collect(v *view, q *storage.PointQuery) error {
	id, key := device.ID{Tenant: q.Tenant, Device: q.Device}, seriesKey{q.Channel, q.Name}
	for i := len(v.heads) - 1; i >= 0; i-- {
		ps, texts := v.heads[i].points(id, key)
		c.take(v.heads[i].seal, lastOfEach(slices.Clone(ps)), texts)
	}
	seriesID, err := v.one(`SELECT s.id FROM series s JOIN device d ON d.id = s.device_id
		WHERE d.tenant = ? AND d.name = ? AND s.channel = ? AND s.name = ?`, q.Tenant, q.Device, q.Channel, q.Name)
	if err != nil || seriesID == 0 {
		return err
	}
	err = v.walk(heldPoints(), seriesID, c.since, c.until, c.done, func(seal int64, body []byte) error {
		ps, texts, err := decodeChunk(body)
		if err != nil {
			return err
		}
		c.take(seal, ps, texts)
		return nil
	})
	if err != nil {
		return err
	}
	return v.walk(heldSparsePoints(), groupOf(id), c.since, c.until, c.done, func(seal int64, body []byte) error {
		return c.takeSparse(seal, body, q)
	})
}

// takeSparse adds the points of the series among the messages of a group.
func (c *pointCollector) takeSparse(seal int64, block []byte, q *storage.PointQuery) error {
	records, err := decodeBlock(block)
	if err != nil {
		return err
	}
	for i := range records {
		if !bytes.Contains(records[i].body, []byte(q.Device)) {
			continue
		}
		m, err := devicepb.UnmarshalMessage(records[i].body)
		if err != nil {
			return damaged(err.Error())
		}
		if m.Device != q.Device || m.Tenant != q.Tenant || m.Channel != q.Channel {
			continue
		}
		for _, x := range m.Measurements {
			if t := micros(x.Time); x.Name == q.Name && x.Value.Kind() != device.KindNone && t >= c.since && t < c.until {
				c.found = append(c.found, foundPoint{t, seal, records[i].pos, x.Value})
				c.sorted = false
			}
		}
	}
	return nil
}

// take adds points of rising, different times.
func (c *pointCollector) take(seal int64, ps []point, texts []string) {
	for _, p := range ps {
		if p.time >= c.since && p.time < c.until {
			c.found = append(c.found, foundPoint{time: p.time, seal: seal, value: makeValue(p, texts)})
			c.sorted = false
		}
	}
}

// done says whether no point at end, or before, is wanted.
func (c *pointCollector) done(end int64) bool {
	if len(c.found) < c.want {
		return false
	}
	c.trim()
	return len(c.found) == c.want && c.found[0].time > end
}

// trim sorts, keeps of equal times the one stored last, and of all the newest.
func (c *pointCollector) trim() {
	if c.sorted {
		return
	}
	slices.SortStableFunc(c.found, func(a, b foundPoint) int { // stable: within a message the later wins
		return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.seal, b.seal), cmp.Compare(a.pos.Epoch, b.pos.Epoch), cmp.Compare(a.pos.Seq, b.pos.Seq))
	})
	kept := c.found[:0]
	for i, p := range c.found {
		if i+1 == len(c.found) || c.found[i+1].time != p.time {
			kept = append(kept, p)
		}
	}
	if extra := len(kept) - c.want; extra > 0 {
		kept = append(kept[:0], kept[extra:]...)
	}
	c.found, c.sorted = kept, true
}
