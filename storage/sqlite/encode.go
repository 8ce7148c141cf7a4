package sqlite

import (
	"cmp"
	"iter"
	"math"
	"slices"

	"github.com/tributary-iot/tributary/device"
)

// sealedHead is a head as it goes into the file.
type sealedHead struct {
	devices      []sealedDevice // by name
	groups       []sealedGroup  // the messages of sparse devices
	recv, points bounds
	bytes        int64
}

type sealedDevice struct {
	id     device.ID
	row    int64 // its id in the file, once known
	blocks []span
	series []sealedSeries // by name
	last   []sealedLast
}

type sealedSeries struct {
	key    seriesKey
	row    int64 // its id in the file, once known
	last   lastValue
	chunks []span
}

// span is an encoded chunk or block: n points or messages in [t0, t1].
type span struct {
	t0, t1 int64
	n      int
	body   []byte
	points *bounds // measurement times in a group's block, which stands for chunks too
}

type bounds struct{ min, max int64 }

func (b *bounds) widen(lowest, highest int64) { b.min, b.max = min(b.min, lowest), max(b.max, highest) }

// nothing is what bounds are before they are widened.
func nothing() bounds { return bounds{math.MaxInt64, math.MinInt64} }

// encodeHead sorts and encodes a queued head. Nothing is added to it any more,
// so only readers share it.
func encodeHead(h *head) (*sealedHead, error) {
	z, err := newSqueezer()
	if err != nil {
		return nil, err
	}
	defer z.enc.Close()
	out := &sealedHead{devices: make([]sealedDevice, 0, len(h.devices)), recv: nothing(), points: nothing()}
	sparse := groups{}
	for id, d := range h.devices {
		one := sealedDevice{id: id}
		if d.sparse() {
			sparse.add(id, d)
		} else {
			one.blocks = z.blocks(slices.Clone(d.records))
		}
		one.series, one.last = z.allSeries(d), z.allLast(d)
		out.devices = append(out.devices, one)
	}
	out.groups = sparse.encode(z)
	slices.SortFunc(out.devices, func(a, b sealedDevice) int {
		return cmp.Or(cmp.Compare(a.id.Tenant, b.id.Tenant), cmp.Compare(a.id.Device, b.id.Device))
	})
	out.measure()
	return out, nil
}

// measure adds up what the partition should know of the seal.
func (out *sealedHead) measure() {
	blocks := func(spans []span) {
		for _, sp := range spans {
			out.recv.widen(sp.t0, sp.t1)
			out.bytes += int64(len(sp.body))
			if sp.points != nil {
				out.points.widen(sp.points.min, sp.points.max)
			}
		}
	}
	for _, g := range out.groups {
		blocks(g.blocks)
	}
	for _, d := range out.devices {
		blocks(d.blocks)
		for _, s := range d.series {
			for _, sp := range s.chunks {
				out.points.widen(sp.t0, sp.t1)
				out.bytes += int64(len(sp.body))
			}
		}
	}
}

// blocks sorts and encodes the messages of one device, by (received, position).
func (z *squeezer) blocks(rs []record) (out []span) {
	slices.SortStableFunc(rs, func(a, b record) int {
		switch {
		case a.before(&b):
			return -1
		case b.before(&a):
			return 1
		}
		return 0
	})
	for part := range cutBlocks(rs) {
		out = append(out, span{t0: part[0].recv, t1: part[len(part)-1].recv, n: len(part), body: z.block(part)})
	}
	return out
}

// cutBlocks cuts records into stretches of bounded count and size.
func cutBlocks(rs []record) iter.Seq[[]record] {
	return func(yield func([]record) bool) {
		for start := 0; start < len(rs); {
			end, size := start, 0
			for end < len(rs) && end-start < blockMessages && (end == start || size+len(rs[end].body) <= blockBytes) {
				size += len(rs[end].body)
				end++
			}
			if !yield(rs[start:end]) {
				return
			}
			start = end
		}
	}
}

func (z *squeezer) allSeries(d *deviceHead) []sealedSeries {
	out := make([]sealedSeries, 0, len(d.series))
	sparse := d.sparse()
	for _, s := range d.series {
		one := sealedSeries{key: s.key, last: s.last}
		if !sparse {
			one.chunks = z.chunks(s.points, s.texts)
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b sealedSeries) int {
		return cmp.Or(cmp.Compare(a.key.channel, b.key.channel), cmp.Compare(a.key.name, b.key.name))
	})
	return out
}

// chunks encodes the points of one series: sorted by time, of equal times only
// the one stored last, split by kind.
func (z *squeezer) chunks(in []point, texts []string) (out []span) {
	ps := lastOfEach(slices.Clone(in))
	for kind := device.KindDouble; kind <= device.KindBytes; kind++ {
		one := ps
		if !slices.ContainsFunc(ps, func(p point) bool { return p.kind == kind }) {
			continue
		}
		if slices.ContainsFunc(ps, func(p point) bool { return p.kind != kind }) {
			one = slices.DeleteFunc(slices.Clone(ps), func(p point) bool { return p.kind != kind })
		}
		out = append(out, z.cut(one, texts)...)
	}
	return out
}

// lastOfEach sorts points that are in stream order by time, in place, and
// keeps of equal times the last.
func lastOfEach(ps []point) []point {
	byTime := func(a, b point) int { return cmp.Compare(a.time, b.time) }
	if !slices.IsSortedFunc(ps, byTime) {
		slices.SortStableFunc(ps, byTime)
	}
	kept := ps[:0]
	for i, p := range ps {
		if i+1 < len(ps) && ps[i+1].time == p.time {
			continue
		}
		kept = append(kept, p)
	}
	return kept
}

// cut encodes points of one kind as chunks of bounded size. A long silence
// also ends a chunk, so that one point with a wild clock does not make all
// the others be read whenever that time is asked for.
func (z *squeezer) cut(ps []point, texts []string) (out []span) {
	text := isText(ps[0].kind)
	for start := 0; start < len(ps); {
		end, size := start, 0
		for end < len(ps) && end-start < chunkPoints && size < chunkBytes && (end == start || ps[end].time-ps[end-1].time < chunkSilence) {
			if text {
				size += len(texts[ps[end].bits])
			}
			end++
		}
		part := ps[start:end]
		out = append(out, span{t0: part[0].time, t1: part[len(part)-1].time, n: len(part), body: z.chunk(part, texts)})
		start = end
	}
	return out
}

const chunkSilence = int64(24 * 3600 * 1e6) // microseconds
