package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"slices"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// Latest answers the last value of every series of a device, or of a page of
// a tenant's devices.
func (s *Store) Latest(ctx context.Context, q storage.LatestQuery) (out []storage.LatestValue, err error) {
	if q.Device == "" {
		if err := checkLimit(q.Limit, 1000); err != nil {
			return nil, err
		}
	}
	err = s.read(ctx, "latest", func(v *view) error {
		devices := []string{q.Device}
		if q.Device == "" {
			if devices, err = v.devicesAfter(q.Tenant, q.After, q.Limit); err != nil {
				return err
			}
		}
		for _, name := range devices {
			values, err := v.latestOf(device.ID{Tenant: q.Tenant, Device: name})
			if err != nil {
				return err
			}
			out = append(out, values...)
		}
		return nil
	})
	return out, err
}

// devicesAfter lists the first limit devices of the tenant past a name that
// have any value.
func (v *view) devicesAfter(tenant, after string, limit int) (names []string, err error) {
	err = v.rows(func(r *sql.Rows) error {
		var name string
		err := r.Scan(&name)
		names = append(names, name)
		return err
	}, `SELECT name FROM device d WHERE tenant = ? AND name > ? AND EXISTS(SELECT 1 FROM series WHERE device_id = d.id) ORDER BY name LIMIT ?`, tenant, after, limit)
	if err != nil {
		return nil, err
	}
	for _, h := range v.heads {
		h.mu.RLock()
		for id, d := range h.devices {
			if id.Tenant == tenant && id.Device > after && len(d.series) > 0 {
				names = append(names, id.Device)
			}
		}
		h.mu.RUnlock()
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(limit, len(names))], nil
}

// latestOf merges what the file and the heads know, by channel and name.
func (v *view) latestOf(id device.ID) (out []storage.LatestValue, err error) {
	newest := map[seriesKey]lastValue{}
	err = v.rows(func(r *sql.Rows) error {
		var key seriesKey
		var last lastValue
		var epoch, seq, kind int64
		var column any
		if err := r.Scan(&key.channel, &key.name, &last.time, &epoch, &seq, &last.unit, &kind, &column); err != nil {
			return err
		}
		last.pos = device.Position{Epoch: uint64(epoch), Seq: uint64(seq)}
		last.value, err = valueOf(kind, column)
		newest[key] = last
		return err
	}, `SELECT s.channel, s.name, s.time, s.epoch, s.seq, s.unit, s.kind, s.value FROM series s JOIN device d ON d.id = s.device_id WHERE d.tenant = ? AND d.name = ?`, id.Tenant, id.Device)
	if err != nil {
		return nil, err
	}
	for _, h := range v.heads { // oldest first: of equal times the later stored wins
		h.latest(id, newest)
	}
	for key, last := range newest {
		out = append(out, storage.LatestValue{Device: id.Device, Channel: key.channel, Position: last.pos,
			Measurement: device.Measurement{Name: key.name, Unit: last.unit, Time: fromMicros(last.time), Value: last.value}})
	}
	slices.SortFunc(out, func(a, b storage.LatestValue) int {
		return cmp.Or(cmp.Compare(a.Channel, b.Channel), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

// latest puts the head's last values into newest where they are newer.
func (h *head) latest(id device.ID, newest map[seriesKey]lastValue) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	d := h.devices[id]
	if d == nil {
		return
	}
	for _, s := range d.series {
		if have, ok := newest[s.key]; !ok || s.last.time >= have.time {
			newest[s.key] = s.last
		}
	}
}
