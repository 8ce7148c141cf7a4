package sqlite

import (
	"database/sql"
	"maps"
	"strings"

	"github.com/tributary-iot/tributary/device"
)

// Of messages whose channel keeps no history (storage.Message.Last) only the
// newest is kept. They are written to hot with all others, so that a Write costs
// the same; in a head the newer takes the place of the older, and a seal writes
// those that are left to the table last_message, over their predecessors. Their
// points are read out of them; what values came with the others only the
// series' last value knows.

// sealedLast is the last message of a channel as it goes into the file.
type sealedLast struct {
	channel string
	body    []byte
}

// lastBits says which messages of a hot row are of such channels; nil for none.
func lastBits(in []incoming) (bits []byte) {
	for i := range in {
		if in[i].last {
			if bits == nil {
				bits = make([]byte, (len(in)+7)/8)
			}
			bits[i/8] |= 1 << (i % 8)
		}
	}
	return bits
}

// keepLast puts a message in the place of its predecessor, and answers the
// memory that takes. The body is copied: it shares its batch's memory.
func (d *deviceHead) keepLast(in *incoming) (size int64) {
	if d.last == nil {
		d.last = map[string]record{}
	}
	was, there := d.last[in.msg.Channel]
	r := in.record
	r.body = append([]byte(nil), in.body...)
	d.last[strings.Clone(in.msg.Channel)] = r
	if there {
		return int64(len(r.body) - len(was.body))
	}
	return int64(len(r.body)+len(in.msg.Channel)) + recordOverhead
}

// owned is a value that shares no memory with the message it came in.
func owned(v device.Value) device.Value {
	switch v.Kind() {
	case device.KindString:
		return device.String(strings.Clone(v.Text()))
	case device.KindBytes:
		return device.Bytes([]byte(v.Text()))
	}
	return v
}

// lastMessages gives a copy of the last messages of a device, by channel.
func (h *head) lastMessages(id device.ID) map[string]record {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if d := h.devices[id]; d != nil {
		return maps.Clone(d.last)
	}
	return nil
}

func (z *squeezer) allLast(d *deviceHead) []sealedLast {
	out := make([]sealedLast, 0, len(d.last))
	for channel, r := range d.last {
		out = append(out, sealedLast{channel, z.block([]record{r})})
	}
	return out
}

func insertLast(tx *sql.Tx, seal int64, devices []sealedDevice) error {
	stmt, err := tx.Prepare(`INSERT INTO last_message VALUES(?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET seal = excluded.seal, body = excluded.body`)
	if err != nil {
		return err
	}
	defer stmt.Close()
	for i := range devices {
		for _, l := range devices[i].last {
			if _, err := stmt.Exec(devices[i].row, l.channel, seal, l.body); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachLast visits the last message of each channel of a device that keeps no
// history, or of one channel, with the seal it is of; row is the device's id,
// 0 when the file has none.
func (v *view) eachLast(id device.ID, row int64, channel *string, visit func(seal int64, r record) error) error {
	newer := map[string]bool{}
	for i := len(v.heads) - 1; i >= 0; i-- {
		for name, r := range v.heads[i].lastMessages(id) {
			if newer[name] || channel != nil && name != *channel {
				continue
			}
			newer[name] = true
			if err := visit(v.heads[i].seal, r); err != nil {
				return err
			}
		}
	}
	if row == 0 {
		return nil
	}
	return v.rows(func(rows *sql.Rows) error {
		var name string
		var seal int64
		var body []byte
		if err := rows.Scan(&name, &seal, &body); err != nil || newer[name] {
			return err
		}
		records, err := decodeBlock(body)
		if err != nil {
			return err
		}
		if len(records) != 1 {
			return damaged("a last message is not one message")
		}
		return visit(seal, records[0])
	}, `SELECT channel, seal, body FROM last_message WHERE device_id = ?1 AND (?2 IS NULL OR channel = ?2)`, row, channel)
}
