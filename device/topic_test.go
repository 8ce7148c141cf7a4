package device_test

import (
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/device"
)

func TestUseTopic(t *testing.T) {
	id := device.ID{Tenant: "t", Device: "d"}
	dev := device.Principal{ID: id, Kind: device.KindDevice}
	gw := device.Principal{ID: id, Kind: device.KindGateway, For: "floor-*"}
	app := device.Principal{ID: id, Kind: device.KindApplication}
	open := device.Principal{ID: id, Kind: device.KindDevice, Open: true}
	const all = "device gateway application open"
	for topic, may := range map[string]string{
		"d": all, "d/a": all, "d/#": all, "d/telemetry/#": all, "d/+/x": all,
		"floor-1/a": "gateway application open", "other/a": "application open", "#": "application open", "+/d": "application open", "/d": "application open",
		"d/commands": "", "d/commands/#": "", "+/commands/#": "", "+/responses/x": "", "telemetry": "", "commands/#": "", "responses/x": "",
	} {
		for name, p := range map[string]device.Principal{"device": dev, "gateway": gw, "application": app, "open": open} {
			if err := p.UseTopic(topic); (err == nil) != strings.Contains(may, name) {
				t.Errorf("%s, %s: %v", name, topic, err)
			}
		}
	}
}

func TestFilterMatches(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a/b/c", false}, {"a/b", "a", false}, {"a/#", "a", true}, {"a/#", "a/b/c", true}, {"a/+", "a", false},
		{"a/+", "a/", true}, {"+", "a", true}, {"+", "/a", false}, {"/+", "/a", true}, {"+/+", "/a", true}, {"#", "a/b", true},
		{"#", "$SYS/a", false}, {"+/a", "$SYS/a", false}, {"$SYS/#", "$SYS/a", true}, {"a//b", "a//b", true}, {"A", "a", false}, {"a/+/#", "a", false}, {"a/+/#", "a/b", true},
	} {
		if got := device.FilterMatches(c.filter, c.topic); got != c.want {
			t.Errorf("%s takes %s: %v", c.filter, c.topic, got)
		}
	}
}

func TestTopicBounds(t *testing.T) {
	long := strings.Repeat("x", device.MaxTopicBytes)
	deep := strings.Repeat("/", device.MaxTopicLevels-1)
	for _, topic := range []string{long, deep, "/", "a b/ü"} {
		if err := device.ValidateTopic(topic); err != nil {
			t.Errorf("%.20q: %v", topic, err)
		}
	}
	for _, topic := range []string{"", long + "x", deep + "/", "a/+", "#", "$SYS/x", "a\x00", "a\n", "\xff"} {
		if device.ValidateTopic(topic) == nil {
			t.Errorf("%.20q was taken", topic)
		}
	}
	for filter, ok := range map[string]bool{
		"a/+/#": true, "#": true, "$share/g/a/#": true, "$share/g": false, "$share//a": false, "$share/g+/a": false, "a#": false, "a/#/b": false, "+a": false, "$SYS/#": false,
	} {
		if err := (&device.Subscription{Filter: filter}).Validate(); (err == nil) != ok {
			t.Errorf("%s: %v", filter, err)
		}
	}
}
