package device_test

import (
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/device"
)

func TestSelectors(t *testing.T) {
	have := device.Labels{"model": "t-1", "site": "berlin", "roof": "", "example.org/rev": "2"}
	for text, want := range map[string]bool{
		"": true, "  ": true,
		"model=t-1": true, "model==t-1": true, "model = t-2": false, "model!=t-1": false, "model!=t-2": true,
		"nosuch=x": false, "nosuch!=x": true,
		"roof": true, "!roof": false, "nosuch": false, "! nosuch": true, "roof=": true,
		"site in (berlin, paris)": true, "site in(paris)": false, "site notin (paris,rome)": true, "nosuch notin (a)": true, "site in (,berlin)": true,
		"model=t-1,site=berlin,roof": true, "model=t-1,site=rome": false, "example.org/rev in (1,2),!basement": true,
	} {
		s, err := device.ParseSelector(text)
		if err != nil || s.Matches(have) != want {
			t.Errorf("%q reads as %q (%v) and matches: %v", text, s, err, !want)
		}
	}
	for _, text := range []string{
		",", "a,", "a b", "a=b c", "=b", "a in", "a in b", "a in (", "a in (b", "a in (b c)", "a in (b))", "!", "!!a", "a!", "-a", "a=-b", "a=b/c",
		"ä", "a=ä", "a>1", strings.Repeat("a", 64), "a=" + strings.Repeat("b", 64), strings.Repeat("a,", 2000),
	} {
		if s, err := device.ParseSelector(text); device.CodeOf(err) != device.Invalid || err == nil {
			t.Errorf("%q reads as %q, %v", text, s, err)
		}
	}
}

func TestLabels(t *testing.T) {
	for _, good := range []device.Labels{nil, {"a": ""}, {"a.b/c_d-e": "F.0_1-g"}} {
		if err := good.Validate(); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	many := device.Labels{}
	for i := range device.MaxLabels + 1 {
		many["k"+strings.Repeat("x", i%60)+string(rune('a'+i/60))] = ""
	}
	for _, bad := range []device.Labels{{"": "x"}, {"a ": "x"}, {"a": "x y"}, {"/a": ""}, {"a": "b/c"}, {"a": "-"}, {strings.Repeat("k", 64): ""}, {"a": strings.Repeat("v", 64)}, many} {
		if err := bad.Validate(); device.CodeOf(err) != device.Invalid || err == nil {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if got := (device.Labels{"b": "2", "a": ""}).String(); got != "a,b=2" {
		t.Errorf("written %q", got)
	}
}

// FuzzSelector: what a selector is written as reads as the same one.
func FuzzSelector(f *testing.F) {
	for _, seed := range []string{"a=b", "a!=b,c in (d, e),!f,g", "a notin ( b , )", "in in (in)", "a==", "notin"} {
		f.Add(seed, "a", "b")
	}
	f.Fuzz(func(t *testing.T, text, key, value string) {
		s, err := device.ParseSelector(text)
		if err != nil {
			return
		}
		again, err := device.ParseSelector(s.String())
		if err != nil || again.String() != s.String() {
			t.Fatalf("%q is written %q, which reads as %q, %v", text, s, again, err)
		}
		l := device.Labels{key: value}
		if s.Matches(l) != again.Matches(l) {
			t.Fatalf("%q and %q mean different devices", text, s)
		}
	})
}
