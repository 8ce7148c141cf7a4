package sqlite

import (
	"math"
	"strings"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// A head is the messages committed to hot but not yet sealed, in memory as
// reads and the seal want them: by device, and by series. A head belongs to one
// partition and becomes the seal of its number. It only ever grows, until it
// is replaced by the next and then sealed.
type head struct {
	seal     int64 // its number in the file, once sealed
	bucket   int64 // start of its partition
	firstHot int64 // hot rows it holds, all of them in [firstHot, lastHot]
	lastHot  int64
	born     time.Time // when its first message came

	mu      sync.RWMutex // guards what follows
	rows    int
	bytes   int64
	devices map[device.ID]*deviceHead

	keys keySet // of the keyed messages; changed and read under the store's writing, and read by the seal
}

// Estimates of memory beside the bodies themselves.
const (
	recordOverhead = 80
	pointOverhead  = 36
	seriesOverhead = 250
	deviceOverhead = 250
)

type seriesKey struct{ channel, name string }

type deviceHead struct {
	records []record          // in stream order
	last    map[string]record // by channel, of those that keep no history (last.go); nil for none
	series  []*seriesHead
	byKey   map[seriesKey]*seriesHead // nil while series are few enough to look through
}

type seriesHead struct {
	key    seriesKey
	points []point // in stream order
	texts  []string
	last   lastValue
}

// lastValue is the newest value of a series, by the time it counts as.
type lastValue struct {
	time  int64
	pos   device.Position
	unit  string
	value device.Value
}

// clockSlack is how far after its stream time a measurement may be dated and
// still count as of its own time for Latest.
const clockSlack = int64(10 * time.Minute / time.Microsecond)

func newHead(seal, bucket int64) *head {
	return &head{seal: seal, bucket: bucket, devices: map[device.ID]*deviceHead{}}
}

// incoming is a message about to be stored, with what is known of it by now.
type incoming struct {
	record
	msg  *device.Message
	last bool // its channel keeps no history
}

// add takes the messages of one committed hot row.
func (h *head) add(hotID int64, in []incoming) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rows == 0 {
		h.firstHot, h.born = hotID, time.Now()
	}
	h.lastHot = hotID
	for i := range in {
		h.addOne(&in[i])
	}
	h.rows += len(in)
}

func (h *head) addOne(in *incoming) {
	d := h.devices[in.msg.ID()]
	if d == nil {
		d = &deviceHead{}
		h.devices[device.ID{Tenant: strings.Clone(in.msg.Tenant), Device: strings.Clone(in.msg.Device)}] = d
		h.bytes += deviceOverhead
	}
	if in.msg.Key != "" {
		h.keys.add(keyedOf(in.msg), in.stored)
		h.bytes += keyOverhead
	}
	if in.last {
		h.bytes += d.keepLast(in)
	} else {
		d.records = append(d.records, in.record)
		h.bytes += int64(len(in.body)) + recordOverhead
	}
	for i := range in.msg.Measurements {
		m := &in.msg.Measurements[i]
		if m.Value.Kind() == device.KindNone {
			continue
		}
		s := d.find(i, in.msg.Channel, m.Name)
		if s == nil {
			s = d.create(in.msg.Channel, m.Name)
			h.bytes += seriesOverhead + int64(len(in.msg.Channel)+len(m.Name))
		}
		if in.last {
			s.see(in, m, owned(m.Value))
		} else {
			h.bytes += s.add(in, m)
		}
	}
}

// fewSeries is how many are looked through before a map pays.
const fewSeries = 12

// find gives the series, nil when there is none. It looks at place at first:
// most messages of a device have the same measurements in the same order.
func (d *deviceHead) find(at int, channel, name string) *seriesHead {
	key := seriesKey{channel, name}
	if at < len(d.series) && d.series[at].key == key {
		return d.series[at]
	}
	if d.byKey != nil {
		return d.byKey[key]
	}
	for _, s := range d.series {
		if s.key == key {
			return s
		}
	}
	return nil
}

func (d *deviceHead) create(channel, name string) *seriesHead {
	s := &seriesHead{key: seriesKey{strings.Clone(channel), strings.Clone(name)}}
	d.series = append(d.series, s)
	switch {
	case d.byKey != nil:
		d.byKey[s.key] = s
	case len(d.series) > fewSeries:
		d.byKey = make(map[seriesKey]*seriesHead, 2*fewSeries)
		for _, s := range d.series {
			d.byKey[s.key] = s
		}
	}
	return s
}

// add takes one value and answers the memory it takes.
func (s *seriesHead) add(in *incoming, m *device.Measurement) int64 {
	p, size := s.addPoint(m)
	s.see(in, m, s.value(p))
	return size
}

// see makes a value the series' last, if it is.
func (s *seriesHead) see(in *incoming, m *device.Measurement, value device.Value) {
	effective := micros(m.Time)
	if effective > in.stored+clockSlack {
		effective = in.stored
	}
	if s.last.value.Kind() == device.KindNone || effective >= s.last.time {
		if s.last.unit != m.Unit {
			s.last.unit = strings.Clone(m.Unit)
		}
		s.last.time, s.last.pos, s.last.value = effective, in.pos, value
	}
}

// addPoint takes the value alone.
func (s *seriesHead) addPoint(m *device.Measurement) (p point, size int64) {
	p, size = point{time: micros(m.Time), kind: m.Value.Kind()}, int64(pointOverhead)
	switch p.kind {
	case device.KindString, device.KindBytes:
		p.bits = uint64(len(s.texts))
		text := strings.Clone(m.Value.Text())
		s.texts = append(s.texts, text)
		size += int64(len(text)) + 16
	default:
		p.bits = valueBits(m.Value)
	}
	s.points = append(s.points, p)
	return p, size
}

// value gives p as the word.
func (s *seriesHead) value(p point) device.Value { return makeValue(p, s.texts) }

func (h *head) size() (rows int, bytes int64) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.rows, h.bytes
}

// records gives the messages of a device, in stream order; nil for none.
// Records never change once added, so the slice may be read at leisure.
func (h *head) records(id device.ID) []record {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if d := h.devices[id]; d != nil {
		return d.records
	}
	return nil
}

// points gives the points of a series, in stream order, likewise.
func (h *head) points(id device.ID, key seriesKey) ([]point, []string) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if d := h.devices[id]; d != nil {
		if s := d.find(0, key.channel, key.name); s != nil {
			return s.points, s.texts
		}
	}
	return nil, nil
}

func valueBits(v device.Value) uint64 {
	switch v.Kind() {
	case device.KindDouble:
		return math.Float64bits(v.Double())
	case device.KindInt:
		return uint64(v.Int())
	case device.KindBool:
		if v.Bool() {
			return 1
		}
	}
	return 0
}

func makeValue(p point, texts []string) device.Value {
	switch p.kind {
	case device.KindDouble:
		return device.Double(math.Float64frombits(p.bits))
	case device.KindInt:
		return device.Int(int64(p.bits))
	case device.KindBool:
		return device.Bool(p.bits != 0)
	case device.KindString:
		return device.String(texts[p.bits])
	case device.KindBytes:
		return device.Bytes([]byte(texts[p.bits]))
	}
	return device.Value{}
}
