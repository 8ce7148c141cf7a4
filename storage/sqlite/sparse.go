package sqlite

import (
	"cmp"
	"hash/fnv"
	"slices"

	"github.com/tributary-iot/tributary/device"
)

// A device that sent only a few messages since the last seal would get a row
// for its block and one for each of its series, all of them tiny: with 50,000
// devices that, not the data, would be the work. So the messages of sparse
// devices go, together, into the blocks of one of a fixed number of groups, and
// their points are read out of the messages again.

const (
	sparseBelow = 16      // messages in one seal
	sparseBytes = 4 << 10 // ... and bytes, so that a block holds many devices
	groupCount  = 1024
)

func (d *deviceHead) sparse() bool {
	if len(d.records) >= sparseBelow {
		return false
	}
	size := 0
	for i := range d.records {
		size += len(d.records[i].body)
	}
	return size <= sparseBytes
}

// groupOf is the owner of the blocks that a sparse device's messages go to. It
// is negative, device ids are positive. It is in the file: never change it.
func groupOf(id device.ID) int64 {
	h := fnv.New32a()
	h.Write([]byte(id.Tenant))
	h.Write([]byte{0})
	h.Write([]byte(id.Device))
	return -1 - int64(h.Sum32()%groupCount)
}

type sealedGroup struct {
	owner  int64
	blocks []span
}

// groups gathers the sparse devices of a head.
type groups map[int64][]sparseDevice

type sparseDevice struct {
	id   device.ID
	head *deviceHead
}

func (g groups) add(id device.ID, d *deviceHead) {
	if len(d.records) == 0 {
		return
	}
	owner := groupOf(id)
	g[owner] = append(g[owner], sparseDevice{id, d})
}

func (g groups) encode(z *squeezer) []sealedGroup {
	out := make([]sealedGroup, 0, len(g))
	for owner, devices := range g {
		slices.SortFunc(devices, func(a, b sparseDevice) int { // similar messages side by side
			return cmp.Or(cmp.Compare(a.id.Tenant, b.id.Tenant), cmp.Compare(a.id.Device, b.id.Device))
		})
		out = append(out, sealedGroup{owner, z.groupBlocks(devices)})
	}
	slices.SortFunc(out, func(a, b sealedGroup) int { return cmp.Compare(a.owner, b.owner) })
	return out
}

// groupBlocks encodes the messages device by device. Bounds of the points are
// those of the group: exact enough to pass over a block.
func (z *squeezer) groupBlocks(devices []sparseDevice) (out []span) {
	var rs []record
	points := nothing()
	for _, d := range devices {
		rs = append(rs, d.head.records...)
		for _, s := range d.head.series {
			for _, p := range s.points {
				points.widen(p.time, p.time)
			}
		}
	}
	for part := range cutBlocks(rs) {
		recv := nothing()
		for i := range part {
			recv.widen(part[i].recv, part[i].recv)
		}
		out = append(out, span{t0: recv.min, t1: recv.max, n: len(part), body: z.block(part), points: &points})
	}
	return out
}
