package device_test

import (
	"path"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/device"
)

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pattern device.Pattern
		name    string
		want    bool
	}{
		{"floor1-*", "floor1-7", true},
		{"floor1-*", "floor1-", true},
		{"floor1-*", "floor1", false},
		{"floor1-*", "floor2-7", false},
		{"floor1-*", "xfloor1-7", false},
		{"floor1-*", "Floor1-7", false},
		{"*-7", "floor1-7", true},
		{"*-7", "floor1-77", false},
		{"*", "anything", true},
		{"**", "anything", true},
		{"f*r*-*7", "floor1-7", true},
		{"f*r*-*7", "floor1-8", false},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"a*ab*b", "aab", false},
		{"ab*abc", "ababc", true},
		{"*b*b*", "b", false},
		{"roof", "roof", true},
		{"roof", "roof2", false},
		{"floor1-*,roof", "roof", true},
		{"floor1-*,roof", "floor1-*,roof", true},
		{"floor1-*,roof", "attic", false},
		{"a.c", "abc", false},
		{"a?c", "abc", false},
		{"a[b]c", "abc", false},
		{"ü*", "über", true},
		{"", "", false},
		{"", "a", false},
	} {
		if got := c.pattern.Matches(c.name); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.name, got)
		}
	}
}

func TestPatternValidate(t *testing.T) {
	for _, good := range []device.Pattern{"*", "a", "floor1-*", "floor1-*,roof", "a b", "ü", device.Pattern(strings.Repeat("a,", 400) + "a")} {
		if err := good.Validate(); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []device.Pattern{
		"", ",", "a,", ",a", "a,,b", "a, b", " a", "a/b", "a+", "#", "a\x00b", "\xff",
		device.Pattern(strings.Repeat("a", device.MaxDeviceBytes+1)), device.Pattern(strings.Repeat("a,", 600) + "a"),
	} {
		if err := bad.Validate(); err == nil || device.CodeOf(err) != device.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzPattern compares with the standard library's globs, which know the star
// too when nothing else of theirs is in the way.
func FuzzPattern(f *testing.F) {
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p := device.Pattern(pattern)
		if strings.Contains(name, "/") || strings.ContainsAny(pattern, "?[\\") || p.Validate() != nil {
			return
		}
		want := false
		for one := range strings.SplitSeq(pattern, ",") {
			ok, err := path.Match(one, name)
			if err != nil {
				return
			}
			want = want || ok
		}
		if got := p.Matches(name); got != want {
			t.Errorf("%q matches %q: %v, want %v", pattern, name, got, want)
		}
	})
}

func TestSpeakFor(t *testing.T) {
	in := func(name string) device.ID { return device.ID{Tenant: "acme", Device: name} }
	own := device.Principal{ID: in("d1"), Kind: device.KindDevice}
	gateway := device.Principal{ID: in("gw"), Kind: device.KindGateway, For: "floor1-*"}
	application := device.Principal{ID: in("app"), Kind: device.KindApplication, For: "*"}
	open := device.Principal{ID: in("hint"), Kind: device.KindDevice, Open: true}
	odd := device.Principal{ID: in("d1"), Kind: device.KindDevice, For: "*"} // only a gateway's pattern counts
	for _, c := range []struct {
		who       device.Principal
		name      string
		want, via string
		code      device.Code
	}{
		{own, "", "d1", "", 0},
		{own, "d1", "d1", "", 0},
		{own, "d2", "", "", device.Forbidden},
		{own, "D1", "", "", device.Forbidden},
		{odd, "d2", "", "", device.Forbidden},
		{gateway, "", "gw", "", 0},
		{gateway, "gw", "gw", "", 0},
		{gateway, "floor1-7", "floor1-7", "gw", 0},
		{gateway, "floor2-7", "", "", device.Forbidden},
		{gateway, "floor1-*", "floor1-*", "gw", 0},
		{gateway, "floor1-+", "", "", device.Invalid},
		{application, "", "", "", device.Forbidden},
		{application, "app", "", "", device.Forbidden},
		{application, "d1", "", "", device.Forbidden},
		{open, "", "hint", "", 0},
		{open, "d9", "d9", "", 0},
		{open, "telemetry", "", "", device.Invalid},
	} {
		id, via, err := c.who.SpeakFor(c.name)
		if c.code != 0 {
			if err == nil || device.CodeOf(err) != c.code {
				t.Errorf("%s %s as %q: %v, %v", c.who.Kind, c.who.ID, c.name, id, err)
			}
			continue
		}
		if err != nil || id != in(c.want) || via != c.via {
			t.Errorf("%s %s as %q: %v via %q, %v", c.who.Kind, c.who.ID, c.name, id, via, err)
		}
	}
}

func TestNewPrincipal(t *testing.T) {
	id := device.ID{Tenant: "t", Device: "d"}
	for _, good := range []device.NewPrincipal{
		{ID: id}, {ID: id, Kind: device.KindDevice}, {ID: id, Kind: device.KindGateway, For: "a*"}, {ID: id, Kind: device.KindApplication},
	} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, bad := range []device.NewPrincipal{
		{}, {ID: id, Kind: "robot"}, {ID: id, Kind: device.KindGateway}, {ID: id, For: "a*"},
		{ID: id, Kind: device.KindApplication, For: "a*"}, {ID: id, Kind: device.KindGateway, For: "a/b"},
	} {
		if err := bad.Validate(); err == nil || device.CodeOf(err) != device.Invalid {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestOversees: applications, and everybody in open mode, of their own tenant only.
func TestOversees(t *testing.T) {
	app := device.Principal{ID: device.ID{Tenant: "t", Device: "app"}, Kind: device.KindApplication}
	open := device.Principal{ID: device.ID{Tenant: "default", Device: "x"}, Kind: device.KindDevice, Open: true}
	for _, c := range []struct {
		who  device.Principal
		name string
		want device.ID
	}{
		{app, "", device.ID{Tenant: "t"}}, {app, "d", device.ID{Tenant: "t", Device: "d"}},
		{open, "", device.ID{Tenant: "default"}}, {open, "d", device.ID{Tenant: "default", Device: "d"}},
	} {
		if got, err := c.who.Oversees(c.name); err != nil || got != c.want {
			t.Errorf("%v oversees %q: %v, %v", c.who.ID, c.name, got, err)
		}
	}
	for _, kind := range []device.PrincipalKind{device.KindDevice, device.KindGateway} {
		p := device.Principal{ID: device.ID{Tenant: "t", Device: "d"}, Kind: kind, For: "*"}
		for _, name := range []string{"", "d", "x"} {
			if _, err := p.Oversees(name); device.CodeOf(err) != device.Forbidden {
				t.Errorf("a %s oversees %q: %v", kind, name, err)
			}
		}
	}
	if _, err := app.Oversees("a/b"); device.CodeOf(err) != device.Invalid {
		t.Errorf("a name that is none: %v", err)
	}
}
