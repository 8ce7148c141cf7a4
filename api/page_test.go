package api

import "testing"

// FuzzPageToken holds tokens to their two promises: a name survives, and
// anything else is refused, whatever a client made up.
func FuzzPageToken(f *testing.F) {
	f.Add(nameToken("dev1"), "dev1")
	f.Add("!", "")
	f.Add("bg", "\x00")
	f.Fuzz(func(t *testing.T, token, name string) {
		if got, err := parseNameToken(token); err == nil && got == "" && token != "" {
			t.Errorf("%q goes on after nothing", token)
		}
		if len(name) == 0 || len(name) > 128 {
			return
		}
		if got, err := parseNameToken(nameToken(name)); err != nil || got != name {
			t.Errorf("%q came back as %q, %v", name, got, err)
		}
	})
}
