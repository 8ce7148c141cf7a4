// Command held says which tests that docs name as holding a promise did not pass
// in a test run: those that failed, were skipped, or did not run at all.
//
//	go run ./internal/held EVENTS DOCUMENT...
//
// EVENTS is what `go test -json` wrote (gotestsum --jsonfile). A test is named as
// `package/path.TestName`, below the module.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

const module = "github.com/tributary-iot/tributary/"

// named is as internal/layertest has it.
var named = regexp.MustCompile("`([a-z0-9_/]+)\\.(Test[A-Za-z0-9]+)`")

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: held EVENTS DOCUMENT...")
		os.Exit(2)
	}
	missing, held, err := look(os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "held:", err)
		os.Exit(2)
	}
	for _, line := range missing {
		fmt.Println(line)
	}
	if len(missing) > 0 || held == 0 {
		fmt.Printf("held: of %d tests that documents name, %d did not pass\n", held+len(missing), len(missing))
		os.Exit(1)
	}
	fmt.Printf("held: all %d tests that documents name ran and passed\n", held)
}

// look answers a line for each test that is named and did not pass, and how
// many did.
func look(events string, documents []string) (missing []string, held int, err error) {
	f, err := os.Open(events)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	results, err := results(f)
	if err != nil {
		return nil, 0, err
	}
	seen := map[string]bool{}
	for _, document := range documents {
		raw, err := os.ReadFile(document)
		if err != nil {
			return nil, 0, err
		}
		for _, m := range named.FindAllStringSubmatch(string(raw), -1) {
			test := m[1] + "." + m[2]
			if seen[test] {
				continue
			}
			seen[test] = true
			switch result := results[test]; result {
			case "pass":
				held++
			case "":
				missing = append(missing, fmt.Sprintf("%s: %s did not run", document, test))
			default:
				missing = append(missing, fmt.Sprintf("%s: %s: %s", document, test, result))
			}
		}
	}
	slices.Sort(missing)
	return missing, held, nil
}

// results is how each test ended. One whose part was skipped is skipped.
func results(r io.Reader) (map[string]string, error) {
	ended := map[string]string{}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return ended, nil
		}
		if err != nil {
			return nil, err
		}
		var e struct{ Action, Package, Test string }
		if json.Unmarshal(line, &e) != nil || e.Test == "" {
			continue
		}
		pkg, ours := strings.CutPrefix(e.Package, module)
		test, part, isPart := strings.Cut(e.Test, "/")
		name := pkg + "." + test
		switch {
		case !ours || e.Action != "pass" && e.Action != "fail" && e.Action != "skip":
		case isPart && e.Action == "skip":
			ended[name] = "its part " + part + " was skipped"
		case !isPart && (ended[name] == "" || e.Action == "fail"):
			ended[name] = e.Action
		}
	}
}
