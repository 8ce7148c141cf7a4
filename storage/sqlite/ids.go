package sqlite

import (
	"database/sql"
	"errors"
	"strings"

	"github.com/tributary-iot/tributary/device"
)

// idCache remembers row ids of devices and series between seals. It is emptied
// when it grows past maxCachedIDs and when a seal is rolled back.
type idCache struct {
	devices map[device.ID]int64
	series  map[seriesOf]int64
}

type seriesOf struct {
	device int64
	key    seriesKey
}

const maxCachedIDs = 500_000

func (c *idCache) clear() { c.devices, c.series = nil, nil }

// sealIDs finds or makes ids within one seal's transaction.
type sealIDs struct {
	*idCache
	findDevice, addDevice, findSeries, addSeries, setLast *sql.Stmt
}

func (c *idCache) begin(tx *sql.Tx) (*sealIDs, error) {
	if c.devices == nil || len(c.devices)+len(c.series) > maxCachedIDs {
		c.devices, c.series = map[device.ID]int64{}, map[seriesOf]int64{}
	}
	s := &sealIDs{idCache: c}
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&s.findDevice, `SELECT id FROM device WHERE tenant = ? AND name = ?`},
		{&s.addDevice, `INSERT INTO device(tenant, name) VALUES(?, ?)`},
		{&s.findSeries, `SELECT id FROM series WHERE device_id = ? AND channel = ? AND name = ?`},
		{&s.addSeries, `INSERT INTO series(device_id, channel, name, time, epoch, seq, unit, kind, value) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)`},
		{&s.setLast, `UPDATE series SET time = ?2, epoch = ?3, seq = ?4, unit = ?5, kind = ?6, value = ?7 WHERE id = ?1 AND time <= ?2`},
	} {
		var err error
		if *p.stmt, err = tx.Prepare(p.text); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

func (s *sealIDs) close() {
	for _, stmt := range []*sql.Stmt{s.findDevice, s.addDevice, s.findSeries, s.addSeries, s.setLast} {
		if stmt != nil {
			stmt.Close()
		}
	}
}

// assign gives a device and its series their ids, and writes the last values.
func (s *sealIDs) assign(d *sealedDevice) (err error) {
	if d.row, err = s.device(d.id); err != nil {
		return err
	}
	for i := range d.series {
		one := &d.series[i]
		if one.row, err = s.series(d.row, one.key, &one.last); err != nil {
			return err
		}
	}
	return nil
}

func (s *sealIDs) device(id device.ID) (int64, error) {
	if n, ok := s.devices[id]; ok {
		return n, nil
	}
	var n int64
	err := s.findDevice.QueryRow(id.Tenant, id.Device).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		n, err = insertID(s.addDevice, id.Tenant, id.Device)
	}
	if err == nil {
		s.devices[device.ID{Tenant: strings.Clone(id.Tenant), Device: strings.Clone(id.Device)}] = n
	}
	return n, err
}

// series gives the id and makes last the series' last value, unless the file
// has a newer one.
func (s *sealIDs) series(deviceID int64, key seriesKey, last *lastValue) (int64, error) {
	of := seriesOf{deviceID, key}
	n, ok := s.idCache.series[of]
	if !ok {
		err := s.findSeries.QueryRow(deviceID, key.channel, key.name).Scan(&n)
		if errors.Is(err, sql.ErrNoRows) {
			n, err = insertID(s.addSeries, deviceID, key.channel, key.name, last.time, int64(last.pos.Epoch), int64(last.pos.Seq),
				last.unit, int64(last.value.Kind()), sqlValue(last.value))
			if err == nil {
				s.idCache.series[of] = n
			}
			return n, err
		}
		if err != nil {
			return 0, err
		}
		s.idCache.series[of] = n
	}
	_, err := s.setLast.Exec(n, last.time, int64(last.pos.Epoch), int64(last.pos.Seq), last.unit, int64(last.value.Kind()), sqlValue(last.value))
	return n, err
}

func insertID(stmt *sql.Stmt, args ...any) (int64, error) {
	res, err := stmt.Exec(args...)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

// sqlValue is v as column series.value keeps it: doubles by their bits, since
// SQLite turns NaN into NULL.
func sqlValue(v device.Value) any {
	switch v.Kind() {
	case device.KindString, device.KindBytes:
		return []byte(v.Text())
	}
	return int64(valueBits(v))
}

// valueOf undoes sqlValue.
func valueOf(kind int64, column any) (device.Value, error) {
	switch c := column.(type) {
	case int64:
		if k := device.Kind(kind); k == device.KindDouble || k == device.KindInt || k == device.KindBool {
			return makeValue(point{kind: k, bits: uint64(c)}, nil), nil
		}
	case []byte:
		if k := device.Kind(kind); isText(k) {
			return makeValue(point{kind: k}, []string{string(c)}), nil
		}
	case nil: // an empty blob
		if k := device.Kind(kind); isText(k) {
			return makeValue(point{kind: k}, []string{""}), nil
		}
	}
	return device.Value{}, damaged("last value is not of its kind")
}
