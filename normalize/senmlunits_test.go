package normalize

import (
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestUnitsAreClosed holds the table to its own rules: every unit converts to
// a primary one, and a sum's unit is one a reader can look up.
func TestUnitsAreClosed(t *testing.T) {
	primary, secondary := 0, 0
	for name, u := range senmlUnits {
		if u.to == "" {
			primary++
			continue
		}
		secondary++
		if to, ok := senmlUnits[u.to]; !ok || to.to != "" {
			t.Errorf("%s converts to %s, which is no primary unit", name, u.to)
		}
		if !(u.mul > 0 && u.div > 0) {
			t.Errorf("%s converts by %v/%v", name, u.mul, u.div)
		}
	}
	// 58 rows in RFC 8428, table 6; 8 and 33 in RFC 8798, tables 1 and 2.
	if primary != 58+8 || secondary != 33 {
		t.Errorf("%d primary units and %d secondary ones", primary, secondary)
	}
	for from, to := range senmlIntegrals {
		if senmlUnits[from].to != "" || senmlUnits[to].to != "" {
			t.Errorf("%s times seconds is %s: both must be primary", from, to)
		}
	}
}

// TestUnitsConvert has a physical fact for every secondary unit.
func TestUnitsConvert(t *testing.T) {
	for _, c := range []struct {
		value float64
		unit  string
		want  float64
	}{
		{100, "ms", 0.1}, {10, "dBm", -20}, // the examples of RFC 8798, section 3
		{2, "min", 120}, {0.5, "h", 1800}, {868, "MHz", 868e6}, {1.5, "kW", 1500}, {2, "kVA", 2000}, {2, "kvar", 2000},
		{1, "Ah", 3600}, {1, "Wh", 3600}, {1, "kWh", 3.6e6}, {1, "varh", 3600}, {1, "kvarh", 3.6e6}, {1, "kVAh", 3.6e6},
		{150, "Wh/km", 540}, {4, "KiB", 4096}, {2, "GB", 2e9}, {100, "Mbit/s", 1e8}, {3, "B/s", 24}, {1, "MB/s", 8e6},
		{3300, "mV", 3.3}, {20, "mA", 0.02}, {25, "ug/m3", 2.5e-8}, {3.6, "mm/h", 1e-6}, {3600, "m/h", 1}, {400, "ppm", 4e-4},
		{50, "/100", 0.5}, {5, "/1000", 0.005}, {1013.25, "hPa", 101325}, {5, "mm", 0.005}, {180, "cm", 1.8}, {42.195, "km", 42195},
		{36, "km/h", 10},
	} {
		u, ok := senmlUnits[c.unit]
		if got := u.primary(c.value); !ok || math.Abs(got-c.want) > 1e-12*math.Abs(c.want) {
			t.Errorf("%v %s is %v %s, want %v", c.value, c.unit, got, u.to, c.want)
		}
	}
}

// TestUnitsAreDocumented compares the list in docs/formats.md with the table.
func TestUnitsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(text), "Secondary units: <!-- checked by a test -->\n")
	list, _, _ = strings.Cut(list, "\n\n")
	listed := 0
	for _, m := range regexp.MustCompile("((?:`[^`]+`\\s*)+)\\(([^)]+)\\)").FindAllStringSubmatch(list, -1) {
		for _, quoted := range strings.Fields(m[1]) {
			listed++
			if unit := strings.Trim(quoted, "`"); senmlUnits[unit].to != m[2] {
				t.Errorf("docs/formats.md says %s becomes %s, it becomes %q", unit, m[2], senmlUnits[unit].to)
			}
		}
	}
	if !ok || listed != 33 {
		t.Errorf("docs/formats.md lists %d secondary units", listed)
	}
}
