package main

import (
	"strings"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// TestDeviceShowSaysWhereItIsConnected: a person who looks at a device sees who
// it is, what opens its door, and where it stands.
func TestDeviceShowSaysWhereItIsConnected(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	secret := s.addDevice("thermo-1")
	if out := s.client("device", "show", "thermo-1"); !strings.Contains(out, "CREDENTIAL") || strings.Contains(out, "PROTOCOL") {
		t.Errorf("of one that is not connected:\n%s", out)
	}
	conn := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.addresses["mqtt"]).
		SetClientID("c1").SetUsername("thermo-1").SetPassword(secret))
	if token := conn.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	eventually(t, "its session", func() bool {
		out := s.client("device", "show", "thermo-1")
		return strings.Contains(out, "PROTOCOL") && strings.Contains(out, "mqtt")
	})
	conn.Disconnect(0)
	eventually(t, "the end of its session", func() bool { return !strings.Contains(s.client("device", "show", "thermo-1"), "PROTOCOL") })
	s.stop()
}
