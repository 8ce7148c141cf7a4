package layertest

import (
	"fmt"
	"slices"
	"strings"
)

const module = "github.com/tributary-iot/tributary"

// pkg is what the check needs to know of a package, whoever found it out.
type pkg struct {
	path        string   // import path
	imports     []string // of its code, files for other systems included
	testImports []string // of its tests, inside and outside the package
}

// check answers one sentence for each import, package or entry that breaks the
// layers, each saying what to do about it.
func check(house []room, pkgs []pkg) []string {
	rooms := map[string]room{}
	for _, r := range house {
		rooms[r.path] = r
	}
	var broken []string
	seen := map[string]bool{}
	for _, p := range pkgs {
		name := local(p.path)
		seen[name] = true
		r, entered := rooms[name]
		if !entered {
			broken = append(broken, fmt.Sprintf("%s is a new package: enter it in internal/layertest/layers.go with what it may import, "+
				"and in the table of docs/architecture.md, or move its code into a room that exists", name))
			continue
		}
		for _, path := range p.imports {
			if why := r.refuses(path, rooms, false); why != "" {
				broken = append(broken, fmt.Sprintf("%s imports %s: %s", name, local(path), why))
			}
		}
		for _, path := range p.testImports {
			if why := r.refuses(path, rooms, true); why != "" {
				broken = append(broken, fmt.Sprintf("a test of %s imports %s: %s", name, local(path), why))
			}
		}
	}
	return append(broken, unbuilt(house, seen)...)
}

// refuses says why the room may not import path, or nothing when it may.
func (r room) refuses(path string, rooms map[string]room, test bool) string {
	switch {
	case standard(path):
		return ""
	case !ours(path):
		if test || slices.ContainsFunc(r.others, func(prefix string) bool { return below(path, prefix) }) {
			return ""
		}
		return "this module is not one the room lives from. Say in this room's words what you need, as an interface, and let " +
			"the room that owns the module provide it; a module that is truly this room's own is added to its entry in internal/layertest/layers.go"
	}
	name := local(path)
	if name == r.path || slices.Contains(r.rooms, name) {
		return ""
	}
	if test && (rooms[name].helper || slices.Contains(r.tests, name)) {
		return ""
	}
	if rooms[name].helper {
		return "that package is for tests only"
	}
	if test {
		return "tests of a room stand alone too. Use a fake of the interface the room declares, a test helper " +
			"(adapters/adaptertest, storage/storagetest, internal/...), or make it an end-to-end test in cmd/tributary"
	}
	return "rooms never import a sibling. Declare what you need as a small interface in device words and let cmd/tributary tie the two; " +
		"if the house is to change, add the arrow in internal/layertest/layers.go and the reason in docs/decisions"
}

// unbuilt finds entries and arrows that name no package, so that the table
// never says more than the house has.
func unbuilt(house []room, seen map[string]bool) []string {
	var broken []string
	for _, r := range house {
		if !seen[r.path] {
			broken = append(broken, fmt.Sprintf("internal/layertest/layers.go names %s, which does not exist: remove the entry", r.path))
		}
		for _, name := range slices.Concat(r.rooms, r.tests) {
			if !slices.ContainsFunc(house, func(other room) bool { return other.path == name }) {
				broken = append(broken, fmt.Sprintf("internal/layertest/layers.go lets %s import %s, which has no entry", r.path, name))
			}
		}
	}
	return broken
}

func ours(path string) bool { return below(path, module) }

// standard tells a standard package by its first element, which has no dot.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// below reports whether path is prefix or a package under it.
func below(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// local shortens an import path of this module to its folder.
func local(path string) string { return strings.TrimPrefix(path, module+"/") }
