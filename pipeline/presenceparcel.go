package pipeline

import (
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// A parcel is presence events that are one message: a message costs more than what it
// says of one session, and fleets come and go together.
type parcel struct {
	tenant string
	body   []byte // PresenceEvents
	events int
}

// What is in one parcel at most. parcelBytes may be passed by one event, which is some
// eventBytes long.
const (
	parcelBytes  = 64 << 10
	parcelEvents = devicepb.MostPresences
	eventBytes   = 160
)

// parcelsOf packs events, those of each tenant in their order.
func parcelsOf(events []device.PresenceEvent) (all []parcel) {
	open := map[string]int{} // the last parcel of each tenant
	for i := range events {
		e := &events[i]
		n, begun := open[e.Device.Tenant]
		if !begun || all[n].events == parcelEvents || len(all[n].body) >= parcelBytes {
			n = len(all)
			open[e.Device.Tenant] = n
			all = append(all, parcel{tenant: e.Device.Tenant, body: make([]byte, 0, min((len(events)-i)*eventBytes, parcelBytes+eventBytes))})
		}
		all[n].body = devicepb.AppendPresence(all[n].body, e)
		all[n].events++
	}
	return all
}

// placeOf is the position of event i of the n in a parcel.
func placeOf(epoch, seq uint64, i, n int) device.Position {
	place := uint64(i)
	if i == n-1 {
		place = lastPlace
	}
	return device.Position{Epoch: epoch, Seq: seq<<placeBits | place}
}

// parcelAfter is the last parcel of which all was seen by who has seen a position, and how
// many events were of the next one.
func parcelAfter(at device.Position) (all device.Position, seen int) {
	seq, place := at.Seq>>placeBits, at.Seq&lastPlace
	if place == lastPlace || seq == 0 {
		return device.Position{Epoch: at.Epoch, Seq: seq}, 0
	}
	return device.Position{Epoch: at.Epoch, Seq: seq - 1}, int(place) + 1
}
