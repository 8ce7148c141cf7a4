package mqtt_test

import (
	"testing"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
)

// TestTheHouseEndsASession: the peer is told why in its protocol's words, and
// the house that the session is over, once.
func TestTheHouseEndsASession(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		for why, reason := range map[device.Leaving]packet.Reason{
			device.LeftTakenOver: packet.SessionTakenOver, device.LeftDisabled: packet.NotAuthorized,
			device.LeftNodeLost: packet.UseAnotherServer, device.LeftDrain: packet.ServerShuttingDown,
		} {
			gate := &adaptertest.Gate{}
			s := serve(t, mqtt.Config{}, gate)
			peer := join(t, s, v, "dev1")
			entered := gate.Entered()
			if len(entered) != 1 || entered[0].Device != id1 || entered[0].Client != "dev1" {
				t.Fatalf("entered %+v", entered)
			}
			entered[0].End(why)
			peer.wantEnd(reason)
			peer.conn.Close()
			until(t, gate, "the session is left", func() bool { return gate.Entered()[0].Left != "" })
		}
	})
}

// TestLeavingSaysWhy: a session's end is told as what it was.
func TestLeavingSaysWhy(t *testing.T) {
	gate := &adaptertest.Gate{}
	s := serve(t, mqtt.Config{}, gate)
	join(t, s, packet.V5, "a").send(&packet.Disconnect{})
	join(t, s, packet.V5, "b").conn.Close()
	old := join(t, s, packet.V5, "c")
	join(t, s, packet.V5, "c")
	old.wantEnd(packet.SessionTakenOver)
	old.conn.Close()
	for client, want := range map[string]device.Leaving{"a": device.LeftClosed, "b": device.LeftLost, "c": device.LeftTakenOver} {
		until(t, gate, client+" has left: "+string(want), func() bool {
			for _, e := range gate.Entered() {
				if e.Client == client && e.Left == want {
					return true
				}
			}
			return false
		})
	}
}
