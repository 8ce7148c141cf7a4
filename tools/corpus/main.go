// Command corpus keeps what fuzzing found: it runs fuzz targets for a while and
// copies into testdata/fuzz the few inputs that reach code nothing before them
// did. It is run in the root of the module:
//
//	go run -C tools ./corpus [-for 20s] [-keep 12] [package[:Target] ...]
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const module = "github.com/tributary-iot/tributary"

func main() {
	log.SetFlags(0)
	howLong := flag.Duration("for", 20*time.Second, "how long each target is fuzzed; 0 takes what earlier runs found")
	keep := flag.Int("keep", 12, "the most inputs a target gets")
	flag.Parse()
	if err := os.Chdir(".."); err != nil {
		log.Fatal(err)
	}
	targets, err := find(flag.Args())
	if err != nil {
		log.Fatal(err)
	}
	for _, t := range targets {
		if err := t.gather(*howLong, *keep); err != nil {
			log.Fatalf("%s %s: %v", t.pkg, t.name, err)
		}
	}
}

// target is one fuzz target; pkg is its folder.
type target struct{ pkg, name string }

// find lists the targets below this folder, or those asked for.
func find(asked []string) (targets []target, err error) {
	fuzz := regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	err = filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "node_modules" || d.Name() == "tools") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range fuzz.FindAllSubmatch(text, -1) {
			t := target{filepath.Dir(path), string(m[1])}
			if len(asked) == 0 || t.isOneOf(asked) {
				targets = append(targets, t)
			}
		}
		return err
	})
	return targets, err
}

func (t target) isOneOf(asked []string) bool {
	for _, a := range asked {
		if pkg, name, _ := strings.Cut(a, ":"); filepath.Clean(pkg) == t.pkg && (name == "" || name == t.name) {
			return true
		}
	}
	return false
}

// input is one thing to feed a target, and the code blocks that it reached.
type input struct {
	path   string
	size   int
	blocks map[string]bool
}

// gather fuzzes the target and keeps the best of what is in the cache.
func (t target) gather(howLong time.Duration, keep int) error {
	if howLong > 0 {
		fuzz := exec.Command("go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", howLong.String(), "./"+t.pkg)
		if out, err := fuzz.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
	}
	scratch, err := os.MkdirTemp("", "corpus")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	binary := filepath.Join(scratch, "test")
	build := exec.Command("go", "test", "-c", "-cover", "-coverpkg", module+"/...", "-o", binary, "./"+t.pkg)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(string(bytes.TrimSpace(cache)), "fuzz", module, t.pkg, t.name, "*"))
	if err != nil {
		return err
	}
	reached, err := t.cover(binary, filepath.Join(t.pkg, "testdata", "fuzz", t.name))
	if err != nil {
		return err
	}
	inputs, err := t.measure(binary, scratch, found)
	if err != nil {
		return err
	}
	kept, err := t.choose(inputs, reached, keep)
	fmt.Printf("%s %s: %d found, %d kept\n", t.pkg, t.name, len(found), kept)
	return err
}

// measure runs every input by itself.
func (t target) measure(binary, scratch string, found []string) (inputs []input, err error) {
	alone := filepath.Join(scratch, "testdata", "fuzz", t.name)
	if err := os.MkdirAll(alone, 0o700); err != nil {
		return nil, err
	}
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		copied := filepath.Join(alone, filepath.Base(path))
		if err := os.WriteFile(copied, text, 0o600); err != nil {
			return nil, err
		}
		blocks, err := t.cover(binary, alone)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, input{path, len(text), blocks})
		if err := os.Remove(copied); err != nil {
			return nil, err
		}
	}
	return inputs, nil
}

// cover answers the blocks that the seeds in the code and those in dir reach.
func (t target) cover(binary, dir string) (map[string]bool, error) {
	profile := binary + ".cover"
	run := exec.Command(binary, "-test.run", "^"+t.name+"$", "-test.coverprofile", profile)
	run.Dir = filepath.Dir(filepath.Dir(filepath.Dir(dir)))
	if out, err := run.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	text, err := os.ReadFile(profile)
	blocks := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if block, count, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasSuffix(count, " 0") {
			blocks[block] = true
		}
	}
	return blocks, err
}

// choose keeps, one after another, the input that reaches most of what is not
// reached yet; of equal ones the shortest.
func (t target) choose(inputs []input, reached map[string]bool, keep int) (kept int, err error) {
	dir := filepath.Join(t.pkg, "testdata", "fuzz", t.name)
	for ; kept < keep; kept++ {
		best, most := -1, 0
		for i, in := range inputs {
			fresh := 0
			for block := range in.blocks {
				if !reached[block] {
					fresh++
				}
			}
			if fresh > most || fresh == most && fresh > 0 && in.size < inputs[best].size {
				best, most = i, fresh
			}
		}
		if best < 0 {
			break
		}
		for block := range inputs[best].blocks {
			reached[block] = true
		}
		text, err := os.ReadFile(inputs[best].path)
		if err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(inputs[best].path)), text, 0o644)
		}
		if err != nil {
			return kept, err
		}
	}
	return kept, nil
}
