package packet_test

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"testing"

	paho5 "github.com/eclipse/paho.golang/packets"
	paho311 "github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
)

// TestDifferential sends our bytes through the Eclipse codecs and back: they
// must read what we wrote, and we must read the same out of what they write.
func TestDifferential(t *testing.T) {
	for _, s := range samples() {
		b := mustEncode(t, s)
		if !pahoAgrees(s.p) {
			continue
		}
		if err := throughPaho(b, s); err != nil {
			t.Errorf("%s (v%d): %v", s.name, s.version, err)
		}
	}
}

// throughPaho answers what is different after the peer decoded and re-encoded
// the packet in b.
func throughPaho(b []byte, s sample) error {
	var again bytes.Buffer
	if s.version == packet.V5 {
		cp, err := paho5.ReadPacket(bytes.NewReader(b))
		if err != nil {
			return fmt.Errorf("paho.golang refuses %x: %w", b, err)
		}
		if _, err := cp.WriteTo(&again); err != nil {
			return err
		}
	} else {
		cp, err := paho311.ReadPacket(bytes.NewReader(b))
		if err != nil {
			return fmt.Errorf("paho.mqtt.golang refuses %x: %w", b, err)
		}
		if err := cp.Write(&again); err != nil {
			return err
		}
	}
	got, err := packet.NewReader(bytes.NewReader(again.Bytes()), versionFor(s), 1<<20).Next()
	if err != nil {
		return fmt.Errorf("we refuse %x: %w", again.Bytes(), err)
	}
	if g, w := sorted(plain(got)), sorted(plain(s.p)); !reflect.DeepEqual(g, w) {
		return fmt.Errorf("\n got %+v\nwant %+v", g, w)
	}
	return nil
}

// pahoAgrees leaves out what the Eclipse v5 codec does not carry: several
// subscription identifiers, strings that are present and empty, content
// properties of a will, and a DISCONNECT or AUTH without a body, which it
// takes for the end of the stream.
func pahoAgrees(p packet.Packet) bool {
	switch p := p.(type) {
	case *packet.Disconnect:
		if p.Reason == packet.Success {
			return false
		}
	case *packet.Auth:
		if p.Reason == packet.Success {
			return false
		}
	case *packet.Connect:
		if p.Will != nil && slices.ContainsFunc(p.Will.Properties, func(q packet.Property) bool { return q.ID <= packet.CorrelationData }) {
			return false
		}
	}
	for _, list := range propertiesOf(p) {
		ids := 0
		for _, prop := range *list {
			if prop.ID == packet.SubscriptionID {
				ids++
			}
			if ids > 1 || prop.Text == "" && slices.Contains(textProperties, prop.ID) {
				return false
			}
		}
	}
	return true
}

var textProperties = []packet.PropertyID{
	packet.ContentType, packet.ResponseTopic, packet.CorrelationData, packet.AssignedClientID, packet.AuthMethod,
	packet.AuthData, packet.ResponseInfo, packet.ServerReference, packet.ReasonString,
}

func propertiesOf(p packet.Packet) []*packet.Properties {
	switch p := p.(type) {
	case *packet.Connect:
		if p.Will != nil {
			return []*packet.Properties{&p.Properties, &p.Will.Properties}
		}
		return []*packet.Properties{&p.Properties}
	case *packet.Connack:
		return []*packet.Properties{&p.Properties}
	case *packet.Publish:
		return []*packet.Properties{&p.Properties}
	case *packet.Ack:
		return []*packet.Properties{&p.Properties}
	case *packet.Subscribe:
		return []*packet.Properties{&p.Properties}
	case *packet.Suback:
		return []*packet.Properties{&p.Properties}
	case *packet.Unsubscribe:
		return []*packet.Properties{&p.Properties}
	case *packet.Unsuback:
		return []*packet.Properties{&p.Properties}
	case *packet.Disconnect:
		return []*packet.Properties{&p.Properties}
	case *packet.Auth:
		return []*packet.Properties{&p.Properties}
	}
	return nil
}

// sorted orders properties by identifier: only user properties have an order
// that means something (3.3.2.3.7).
func sorted(p packet.Packet) packet.Packet {
	for _, list := range propertiesOf(p) {
		slices.SortStableFunc(*list, func(a, b packet.Property) int { return int(a.ID) - int(b.ID) })
	}
	return p
}
