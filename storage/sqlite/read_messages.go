package sqlite

import (
	"bytes"
	"context"
	"math"
	"slices"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/storage"
)

// Messages answers the newest q.Limit messages that match, oldest first.
func (s *Store) Messages(ctx context.Context, q storage.MessageQuery) (storage.MessagePage, error) {
	if err := checkLimit(q.Limit, 10_000); err != nil {
		return storage.MessagePage{}, err
	}
	c, err := newCollector(&q)
	if err != nil {
		return storage.MessagePage{}, err
	}
	err = s.read(ctx, "messages", func(v *view) error { return c.collect(v) })
	if err != nil {
		return storage.MessagePage{}, err
	}
	return c.page()
}

// collector gathers the newest messages that match: one more than asked for,
// which tells whether there is a page before this one.
type collector struct {
	q            *storage.MessageQuery
	want         int
	since, until int64
	before       record // only messages before it; its received time is MaxInt64 without a cursor
	found        []found
	sorted       bool
	floor        *int64 // once enough are found: the oldest time still of interest
}

type found struct {
	record
	msg *device.Message
}

func newCollector(q *storage.MessageQuery) (*collector, error) {
	c := &collector{q: q, want: q.Limit + 1, sorted: true}
	c.since, c.until = window(q.Since, q.Until)
	c.before.recv = math.MaxInt64
	if q.Cursor != "" {
		var epoch, seq int64
		if _, err := parseCursor(q.Cursor, &c.before.recv, &epoch, &seq); err != nil {
			return nil, err
		}
		c.before.pos = device.Position{Epoch: uint64(epoch), Seq: uint64(seq)}
		if c.before.recv < c.until {
			c.until = c.before.recv + 1
		}
	}
	return c, nil
}

func (c *collector) collect(v *view) error {
	id := device.ID{Tenant: c.q.Tenant, Device: c.q.Device}
	for i := len(v.heads) - 1; i >= 0; i-- {
		if err := c.take(v.heads[i].records(id), true); err != nil {
			return err
		}
	}
	deviceID, err := v.deviceID(id)
	if err != nil {
		return err
	}
	err = v.eachLast(id, deviceID, c.q.Channel, func(_ int64, r record) error { return c.take([]record{r}, true) })
	if err != nil || deviceID == 0 {
		return err
	}
	if possible, err := c.possible(v, deviceID); err != nil || !possible {
		return err
	}
	for _, owner := range []int64{deviceID, groupOf(id)} {
		err := v.walk(heldMessages(), owner, c.since, c.until, c.done, func(body []byte) error {
			records, err := decodeBlock(body)
			if err != nil {
				return err
			}
			return c.take(records, false)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// possible spares reading a device's whole history for a measurement it never
// sent.
func (c *collector) possible(v *view, deviceID int64) (bool, error) {
	if c.q.Name == "" {
		return true, nil
	}
	n, err := v.one(`SELECT count(*) FROM series WHERE device_id = ?1 AND name = ?2 AND (?3 IS NULL OR channel = ?3)`, deviceID, c.q.Name, c.q.Channel)
	return n > 0, err
}

// take adds the records that match, newest first, and stops at those that are
// not wanted any more. Bodies in memory are copied, since a decoded message
// shares memory with its body.
func (c *collector) take(rs []record, copyBody bool) error {
	for i := len(rs) - 1; i >= 0; i-- {
		r := &rs[i]
		if r.recv < c.since || r.recv >= c.until || !r.before(&c.before) || c.done(r.recv) {
			continue
		}
		body := r.body
		if !bytes.Contains(body, []byte(c.q.Device)) { // of another device of its group
			continue
		}
		if copyBody {
			body = slices.Clone(body)
		}
		m, err := devicepb.UnmarshalMessage(body)
		if err != nil {
			return damaged(err.Error())
		}
		if c.matches(m) {
			c.found, c.sorted = append(c.found, found{*r, m}), false
		}
	}
	return nil
}

// matches applies device, channel and name, and leaves out the other
// measurements.
func (c *collector) matches(m *device.Message) bool {
	if m.Device != c.q.Device || m.Tenant != c.q.Tenant {
		return false
	}
	if c.q.Channel != nil && m.Channel != *c.q.Channel {
		return false
	}
	if c.q.Name == "" {
		return true
	}
	m.Measurements = slices.DeleteFunc(m.Measurements, func(x device.Measurement) bool { return x.Name != c.q.Name })
	return len(m.Measurements) > 0
}

// done says whether no message received at end, or before, is wanted: enough
// newer ones are found. It may say no too often, never yes.
func (c *collector) done(end int64) bool {
	if len(c.found) < c.want {
		return false
	}
	if c.floor == nil || len(c.found) > c.want+c.want/4+64 { // sorting after every message would be slow
		c.trim()
		oldest := c.found[0].recv
		c.floor = &oldest
	}
	return *c.floor > end
}

// trim sorts what was found and keeps the newest.
func (c *collector) trim() {
	if c.sorted {
		return
	}
	slices.SortFunc(c.found, func(a, b found) int {
		if a.before(&b.record) {
			return -1
		}
		return 1
	})
	if extra := len(c.found) - c.want; extra > 0 {
		c.found = append(c.found[:0], c.found[extra:]...)
	}
	c.sorted = true
}

func (c *collector) page() (storage.MessagePage, error) {
	c.trim()
	var out storage.MessagePage
	if len(c.found) == c.want {
		c.found = c.found[1:]
		oldest := &c.found[0]
		out.Next = makeCursor("", oldest.recv, int64(oldest.pos.Epoch), int64(oldest.pos.Seq))
	}
	out.Messages = make([]device.Stored, len(c.found))
	for i, f := range c.found {
		out.Messages[i] = device.Stored{Message: *f.msg, Position: f.pos, StoredAt: fromMicros(f.stored)}
	}
	return out, nil
}
