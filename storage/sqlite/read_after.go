package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/storage"
)

// Stream order. A seal is a stretch of the stream, and a seal of a higher number
// is a later one; within a seal blocks are of devices and have no order. So a
// read in stream order looks for the seal where its position is, takes of each
// seal what comes first, and stops at the first seal after which it has enough.
// The last messages of channels without a history are of any seal.

// afterBytes bounds the bodies of one answer, unless one message is larger.
const afterBytes = 8 << 20

// After answers a tenant's messages after a position, in stream order.
func (s *Store) After(ctx context.Context, q storage.AfterQuery) ([]device.Stored, error) {
	if err := checkLimit(q.Limit, 10_000); err != nil {
		return nil, err
	}
	c := &following{q: &q}
	if err := s.read(ctx, "after", c.collect); err != nil {
		return nil, err
	}
	out := make([]device.Stored, len(c.found))
	for i, f := range c.found {
		out[i] = device.Stored{Message: *f.msg, Position: f.pos, StoredAt: fromMicros(f.stored)}
	}
	return out, nil
}

// following gathers the first messages after a position.
type following struct {
	q     *storage.AfterQuery
	found []found
	bytes int
	full  bool // what is at limit, or after it, was left out
	limit device.Position
	seen  device.Position // no seal to come holds anything before it
}

func (c *following) collect(v *view) error {
	parts, err := v.sealedParts()
	if err != nil {
		return err
	}
	start, err := v.sealOf(parts, c.q.After)
	if err != nil {
		return err
	}
	if err := v.eachLastOf(c.q.Tenant, start, c.take); err != nil {
		return err
	}
	err = v.eachSeal(parts, start, c.q.Tenant, func(records []record) error {
		for i := range records {
			if c.seen.Before(records[i].pos) {
				c.seen = records[i].pos
			}
		}
		return c.take(records)
	}, c.enough)
	if err != nil || c.enough() {
		return err
	}
	for _, h := range v.heads {
		for _, records := range h.ofTenant(c.q.Tenant) {
			if err := c.take(records); err != nil {
				return err
			}
		}
	}
	c.trim()
	return nil
}

// take adds the records that are wanted.
func (c *following) take(rs []record) error {
	for i := range rs {
		r := &rs[i]
		if !c.q.After.Before(r.pos) || c.full && !r.pos.Before(c.limit) {
			continue
		}
		kept := *r
		kept.body = slices.Clone(r.body) // a decoded message shares memory with its body, and its body with the block
		m, err := devicepb.UnmarshalMessage(kept.body)
		if err != nil {
			return damaged(err.Error())
		}
		if m.Tenant != c.q.Tenant {
			continue
		}
		c.found, c.bytes = append(c.found, found{kept, m}), c.bytes+len(kept.body)
		if len(c.found) >= 2*c.q.Limit || len(c.found) > 1 && c.bytes > 2*afterBytes {
			c.trim()
		}
	}
	return nil
}

// enough says, between seals, whether later ones are of interest.
func (c *following) enough() bool {
	c.trim()
	n := len(c.found)
	return (c.full || n == c.q.Limit) && !c.seen.Before(c.found[n-1].pos)
}

// trim keeps the first messages, as many as are asked for and fit.
func (c *following) trim() {
	slices.SortFunc(c.found, func(a, b found) int { return a.pos.Compare(b.pos) })
	keep, size := 0, 0
	for keep < len(c.found) && keep < c.q.Limit && (keep == 0 || size+len(c.found[keep].body) <= afterBytes) {
		size += len(c.found[keep].body)
		keep++
	}
	if keep < len(c.found) {
		c.full, c.limit = true, c.found[keep].pos
		clear(c.found[keep:])
		c.found = c.found[:keep]
	}
	c.bytes = size
}

// sealedPart is the blocks of a partition, whose ids rise with their seals.
type sealedPart struct {
	id                  int64
	firstID, lastID     int64
	firstSeal, lastSeal int64
}

// sealedParts lists the partitions that hold blocks, by their first seal.
func (v *view) sealedParts() (out []sealedPart, err error) {
	err = v.rows(func(r *sql.Rows) error {
		var p sealedPart
		out = append(out, p)
		return r.Scan(&out[len(out)-1].id)
	}, `SELECT id FROM part WHERE messages > 0`)
	if err != nil {
		return nil, err
	}
	kept := out[:0] // a partition may have had last messages only
	for _, p := range out {
		err := v.tx.QueryRowContext(v.ctx, fmt.Sprintf(`SELECT a.id, a.seal, b.id, b.seal FROM
			(SELECT id, seal FROM msgblock_%[1]d ORDER BY id LIMIT 1) a, (SELECT id, seal FROM msgblock_%[1]d ORDER BY id DESC LIMIT 1) b`, p.id)).
			Scan(&p.firstID, &p.firstSeal, &p.lastID, &p.lastSeal)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, err
		}
		kept = append(kept, p)
	}
	slices.SortFunc(kept, func(a, b sealedPart) int { return int(a.firstSeal - b.firstSeal) })
	return kept, nil
}

// sealOf answers a seal with which, or after which, everything after a position
// begins: not later, and hardly earlier.
func (v *view) sealOf(parts []sealedPart, after device.Position) (seal int64, err error) {
	late := func(p *sealedPart, id int64) bool { // whether a block holds something after it
		yes, lookErr := v.holdsAfter(p, id, after)
		err = errors.Join(err, lookErr)
		return yes
	}
	i := sort.Search(len(parts), func(i int) bool { return late(&parts[i], parts[i].firstID) })
	if i == 0 || err != nil { // everything is after it
		return 0, err
	}
	p := &parts[i-1]
	n := sort.Search(int(p.lastID-p.firstID+1), func(n int) bool { return late(p, p.firstID+int64(n)) })
	if err != nil {
		return 0, err
	}
	// The block before holds nothing after it, and later seals hold nothing else.
	return v.one(fmt.Sprintf(`SELECT seal FROM msgblock_%d WHERE id < ? ORDER BY id DESC LIMIT 1`, p.id), p.firstID+int64(n))
}

func (v *view) holdsAfter(p *sealedPart, id int64, after device.Position) (bool, error) {
	var body []byte
	err := v.tx.QueryRowContext(v.ctx, fmt.Sprintf(`SELECT body FROM msgblock_%d WHERE id >= ? ORDER BY id LIMIT 1`, p.id), id).Scan(&body)
	if err != nil {
		return false, err
	}
	records, err := decodeBlock(body)
	return slices.ContainsFunc(records, func(r record) bool { return after.Before(r.pos) }), err
}

// eachSeal visits the blocks that may hold a tenant's messages, seal by seal from
// one on, until enough.
func (v *view) eachSeal(parts []sealedPart, seal int64, tenant string, visit func([]record) error, enough func() bool) error {
	for {
		// A seal is in one partition; partitions take turns when the clock jumped.
		var in *sealedPart
		var at, found int64
		for i := range parts {
			p := &parts[i]
			if p.lastSeal < seal || in != nil && p.firstSeal > found {
				continue
			}
			id, first, err := v.firstBlock(p, seal)
			if err != nil {
				return err
			}
			if in == nil || first < found {
				in, at, found = p, id, first
			}
		}
		if in == nil || enough() {
			return nil
		}
		if err := v.visitSeal(in.id, at, found, tenant, visit); err != nil {
			return fmt.Errorf("partition %d, seal %d: %w", in.id, found, err)
		}
		seal = found + 1
	}
}

// firstBlock finds the first block of a seal of at least that number; there is one.
func (v *view) firstBlock(p *sealedPart, seal int64) (id, found int64, err error) {
	if p.firstSeal >= seal {
		return p.firstID, p.firstSeal, nil
	}
	look := func(n int) bool {
		s, lookErr := v.one(fmt.Sprintf(`SELECT seal FROM msgblock_%d WHERE id >= ? ORDER BY id LIMIT 1`, p.id), p.firstID+int64(n))
		err = errors.Join(err, lookErr)
		return s >= seal
	}
	id = p.firstID + int64(sort.Search(int(p.lastID-p.firstID), look))
	if err != nil {
		return 0, 0, err
	}
	found, err = v.one(fmt.Sprintf(`SELECT seal FROM msgblock_%d WHERE id >= ? ORDER BY id LIMIT 1`, p.id), id)
	return id, found, err
}

// errSealOver ends visitSeal's query at the first block of another seal.
var errSealOver = errors.New("the seal is over")

func (v *view) visitSeal(part, id, seal int64, tenant string, visit func([]record) error) error {
	err := v.rows(func(r *sql.Rows) error {
		var at int64
		var body []byte
		if err := r.Scan(&at, &body); err != nil {
			return err
		}
		if at != seal {
			return errSealOver
		}
		records, err := decodeBlock(body)
		if err != nil {
			return err
		}
		return visit(records)
	}, fmt.Sprintf(`SELECT seal, body FROM msgblock_%d WHERE id >= ? AND (owner < 0 OR owner IN (SELECT id FROM device WHERE tenant = ?)) ORDER BY id`, part), id, tenant)
	if errors.Is(err, errSealOver) {
		return nil
	}
	return err
}

// ofTenant gives the messages of a tenant's devices, each in stream order.
func (h *head) ofTenant(tenant string) (out [][]record) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for id, d := range h.devices {
		if id.Tenant == tenant {
			out = append(out, d.records)
		}
	}
	return out
}

// eachLastOf visits the last messages of a tenant's channels without a history,
// those of the heads and those of seals of at least that number.
func (v *view) eachLastOf(tenant string, seal int64, visit func([]record) error) error {
	type channel struct{ device, name string }
	newer := map[channel]bool{}
	for _, h := range slices.Backward(v.heads) {
		h.mu.RLock()
		var found []record
		for id, d := range h.devices {
			for name, r := range d.last {
				if at := (channel{id.Device, name}); id.Tenant == tenant && !newer[at] {
					newer[at] = true
					found = append(found, r)
				}
			}
		}
		h.mu.RUnlock()
		if err := visit(found); err != nil {
			return err
		}
	}
	return v.rows(func(rows *sql.Rows) error {
		var at channel
		var body []byte
		if err := rows.Scan(&at.device, &at.name, &body); err != nil || newer[at] {
			return err
		}
		records, err := decodeBlock(body)
		if err != nil {
			return err
		}
		return visit(records)
	}, `SELECT d.name, l.channel, l.body FROM last_message l JOIN device d ON d.id = l.device_id WHERE d.tenant = ? AND l.seal >= ?`, tenant, seal)
}
