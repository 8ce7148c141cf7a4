package embedded_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/pipeline/embedded"
)

// TestSettingsThatWereHalfWritten: what a kill or a power cut leaves of the two
// files with a stream's settings costs neither the stream nor its messages, and
// is over after one start.
func TestSettingsThatWereHalfWritten(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, settings, sum string){
		"new settings, old checksum": func(t *testing.T, settings, _ string) {
			rewrite(t, settings, func(s string) string { return strings.Replace(s, `"description":"old"`, `"description":"new"`, 1) })
		},
		"no checksum":       func(t *testing.T, _, sum string) { must(t, os.Remove(sum)) },
		"an empty checksum": func(t *testing.T, _, sum string) { rewrite(t, sum, func(string) string { return "" }) },
		"settings of zeros": func(t *testing.T, settings, _ string) {
			rewrite(t, settings, func(s string) string { return strings.Repeat("\x00", len(s)) })
		},
		"settings cut short": func(t *testing.T, settings, _ string) {
			rewrite(t, settings, func(s string) string { return s[:len(s)/2] })
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, cfg := t.TempDir(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Description: "old"}
			s := start(t, dir, embedded.Strict)
			js := connect(t, s)
			_, err := js.CreateStream(t.Context(), cfg)
			must(t, err)
			_, err = js.Publish(t.Context(), "s", []byte("kept"))
			must(t, err)
			stop(t, s)
			files := filepath.Join(dir, "jetstream", "$G", "streams", "S")
			damage(t, filepath.Join(files, "meta.inf"), filepath.Join(files, "meta.sum"))
			for range 2 {
				s := start(t, dir, embedded.Strict)
				js := connect(t, s)
				stream, err := js.CreateOrUpdateStream(t.Context(), cfg) // as the pipeline does at every start
				must(t, err)
				m, err := stream.GetMsg(t.Context(), 1)
				must(t, err)
				if string(m.Data) != "kept" {
					t.Errorf("the stream holds %q", m.Data)
				}
				stop(t, s)
			}
			// The second start made nothing anew: the settings are those of the first.
			s = start(t, dir, embedded.Strict)
			js = connect(t, s)
			if _, err := js.Stream(t.Context(), "S"); err != nil {
				t.Errorf("after two starts the stream is still passed over: %v", err)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func rewrite(t *testing.T, path string, change func(string) string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	must(t, err)
	changed := change(string(raw))
	if changed == string(raw) {
		t.Fatalf("%s is as it was: %q", path, raw)
	}
	must(t, os.WriteFile(path, []byte(changed), 0o600))
}
