package https_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/adapters/https"
)

func TestPaths(t *testing.T) {
	f := func(path, want string) {
		t.Helper()
		u, err := url.ParseRequestURI(path)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := https.ParsePath(u)
		if !ok {
			got = [5]string{}
		}
		if strings.Join(got[:], "|") != want {
			t.Errorf("%s: %q, want %q", path, strings.Join(got[:], "|"), want)
		}
	}
	f("/v1/devices/d/telemetry", "telemetry|d|||")
	f("/v1/devices/d/telemetry/", "telemetry|d|||")
	f("/v1/devices/d/telemetry/a/b", "telemetry|d|a/b||")
	f("/v1/devices/d/telemetry/a//../b/", "telemetry|d|a//../b/||")
	f("/v1/devices/d/telemetry/a%2Fb%20c", "telemetry|d|a/b c||")
	f("/v1/devices/d%2Fe/telemetry", "telemetry|d/e|||")
	f("/v1/devices/d%25/telemetry", "telemetry|d%|||")
	f("/v1/devices/d%252F/telemetry/%2525", "telemetry|d%2F|%25||")
	f("/v1/devices/d/commands", "commands|d|||")
	f("/v1/devices/d/commands/c:accept", "settle|d||c|accept")
	f("/v1/devices/d/commands/c%3Arelease", "settle|d||c|release")
	f("/v1/devices/d/commands/a:b:reject", "settle|d||a:b|reject")
	f("/v1/devices/d/commands/c/response", "response|d||c|")
	f("/v1/devices/d/commands/c%2Fresponse", "||||")
	f("/v1/devices/d/commands/", "||||")
	f("/v1/devices/../telemetry", "telemetry|..|||")
}

// FuzzPath: no path panics, none is taken for two things, and a path written
// from its parts is read as these parts.
func FuzzPath(f *testing.F) {
	for _, path := range []string{"/v1/devices/d/telemetry/a%2Fb", "/v1/devices/d/commands/c:accept", "/v1/devices/%/commands/c/response", "/v1/devices///"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		got, ok := https.ParsePath(u)
		if !ok {
			return
		}
		kind, device, channel, command, verb := got[0], got[1], got[2], got[3], got[4]
		again := "/v1/devices/" + url.PathEscape(device)
		switch kind {
		case "telemetry":
			again += "/telemetry/" + url.PathEscape(channel)
		case "commands":
			again += "/commands"
		case "settle":
			again += "/commands/" + url.PathEscape(command+":"+verb)
		case "response":
			again += "/commands/" + url.PathEscape(command) + "/response"
		default:
			t.Fatalf("%q is %q", path, kind)
		}
		if u, err = url.ParseRequestURI(again); err != nil {
			t.Fatal(err)
		}
		if back, ok := https.ParsePath(u); !ok || back != got {
			t.Fatalf("%q is %q, but %q is %q", path, got, again, back)
		}
	})
}
