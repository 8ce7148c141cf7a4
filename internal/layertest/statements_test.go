package layertest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// statements is how many statements Appendix B of each text numbers, by section.
var statements = map[string]string{
	"5.0": `1.5.4 3, 1.5.5 1, 1.5.7 1, 2.1.3 1, 2.2.1 6, 2.2.2 1, 3.1.0 2, 3.1.2 30, 3.1.3 12, 3.1.4 6, 3.2.0 2, 3.2.2 22,
		3.3.1 13, 3.3.2 20, 3.3.4 10, 3.4.2 3, 3.5.2 3, 3.6.1 1, 3.6.2 3, 3.7.2 3, 3.8.1 1, 3.8.3 5, 3.8.4 8, 3.9.2 2, 3.9.3 2,
		3.10.1 1, 3.10.3 2, 3.10.4 6, 3.11.2 2, 3.11.3 2, 3.12.4 1, 3.14.0 1, 3.14.1 1, 3.14.2 4, 3.14.4 3, 3.15.1 1, 3.15.2 3,
		4.1.0 2, 4.2.0 1, 4.3.1 1, 4.3.2 5, 4.3.3 13, 4.4.0 2, 4.5.0 2, 4.6.0 6, 4.7.0 1, 4.7.1 2, 4.7.2 1, 4.7.3 4, 4.8.2 6,
		4.9.0 3, 4.12.0 7, 4.12.1 2, 4.13.1 1, 4.13.2 1, 6.0.0 4`,
	"3.1.1": `1.5.3 3, 2.2.2 2, 2.3.1 7, 3.1.0 2, 3.1.2 24, 3.1.3 11, 3.1.4 5, 3.2.0 1, 3.2.2 6, 3.3.1 12, 3.3.2 3, 3.3.4 1,
		3.3.5 2, 3.6.1 1, 3.8.1 1, 3.8.3 4, 3.8.4 6, 3.9.3 2, 3.10.1 1, 3.10.3 2, 3.10.4 6, 3.12.4 1, 3.14.1 1, 3.14.4 3,
		4.1.0 2, 4.3.1 1, 4.3.2 2, 4.3.3 2, 4.4.0 1, 4.5.0 2, 4.6.0 6, 4.7.1 3, 4.7.2 1, 4.7.3 4, 4.8.0 2, 6.0.0 4, 7.0.0 2,
		7.1.1 1, 7.1.2 1`,
}

// TestMQTTStatements: docs/mqtt.md has every numbered statement of both texts, once.
func TestMQTTStatements(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root, "docs", "mqtt.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(raw), "\n## Conformance\n")
	listed := map[string]int{}
	lists := regexp.MustCompile(`(5\.0|3\.1\.1): ([\d.]+-\d+(?:, [\d.]+-\d+)*)`)
	for _, m := range lists.FindAllStringSubmatch(table, -1) {
		for id := range strings.SplitSeq(m[2], ", ") {
			listed[m[1]+" "+id]++
		}
	}
	for version, sections := range statements {
		for entry := range strings.SplitSeq(sections, ",") {
			var section string
			var count int
			if _, err := fmt.Sscan(entry, &section, &count); err != nil {
				t.Fatal(err)
			}
			for n := 1; n <= count; n++ {
				id := fmt.Sprintf("%s %s-%d", version, section, n)
				if id == "5.0 2.2.1-1" { // the text has no statement of that number
					continue
				}
				if listed[id] != 1 {
					t.Errorf("statement %s is there %d times", id, listed[id])
				}
				delete(listed, id)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(listed)) {
		t.Errorf("there is no statement %s", id)
	}
}
