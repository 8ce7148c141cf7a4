package pipeline

import (
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// Where several things are one message of a stream, the place of one of them is the
// message's sequence and, in the lowest bits, its number among them. The last has the
// highest number there is: what stands behind it is at another sequence.
const (
	placeBits = 10
	lastPlace = 1<<placeBits - 1
)

// bitsOf is how many bits of a place in a source say which message of a frame it is: in
// the other sources a place is the sequence.
func bitsOf(src device.Source) uint {
	if src == device.SourceTopics {
		return placeBits
	}
	return 0
}

// firstAt is the place of the first of several messages at a sequence; those behind it
// follow, but for the last.
func firstAt(src device.Source, seq uint64) uint64 { return seq << bitsOf(src) }

// lastAt is the place of the last message at a sequence, which may be the only one; 0
// for none.
func lastAt(src device.Source, seq uint64) uint64 {
	if seq == 0 {
		return 0
	}
	return firstAt(src, seq+1) - 1
}

// seqAt is the sequence that holds a place.
func seqAt(src device.Source, place uint64) uint64 { return place >> bitsOf(src) }

// seqAfter is the first sequence that may hold a place after one.
func seqAfter(src device.Source, after uint64) uint64 { return max(seqAt(src, after+1), 1) }

// eachPlace calls each with the messages of a source that stand at one sequence, those
// after a place, in order, until it answers false; it answers whether it went to the
// end. The sequence of a message is its place. What cannot be read of a frame is one
// message that cannot be read.
func eachPlace(src device.Source, r raw, after uint64, each func(raw) bool) (all bool) {
	one, last := r, lastAt(src, r.seq)
	one.seq, all = firstAt(src, r.seq), true
	give := func(body []byte) bool {
		if one.body = body; one.seq > after {
			all = each(one)
		}
		one.seq++
		return all
	}
	var held []byte // until it is known whether it is the last
	n := 0
	if src == device.SourceTopics {
		err := devicepb.EachPublication(r.body, func(body []byte) bool {
			if n++; n > 1 && !give(held) {
				return false
			}
			held = body
			return one.seq < last
		})
		if err != nil {
			if n > 0 && all && one.seq < last {
				give(held)
			}
			held = r.body
		}
	} else {
		held = r.body
	}
	if one.seq = last; all {
		give(held)
	}
	return all
}
