package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestHTTPRepeats: a device whose 204 got lost says the same again, and hears
// 204 again, after it has ended and after the server was killed as well; what it
// never said is a conflict.
func TestHTTPRepeats(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := serve(t, data, "--open")
	call := func(method, path, body string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.addresses["http"]+"/v1/devices/forgetful/commands"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(text)
	}
	expect := func(want int, path, body string) {
		t.Helper()
		if got, text := call("POST", path, body); got != want {
			t.Errorf("%s %s: %d %s, want %d", path, body, got, text, want)
		}
	}
	s.client("send", "forgetful", "heat", `{"on":true}`)
	status, text := call("GET", "?wait=30s", "")
	var offered struct {
		ID    string `json:"id"`
		Token string `json:"lock_token"`
	}
	if err := json.Unmarshal([]byte(text), &offered); status != 200 || err != nil {
		t.Fatalf("%d %s %v", status, text, err)
	}
	settle, answer := "/"+offered.ID+":accept", "/"+offered.ID+"/response?status=200"
	for range 2 {
		expect(204, settle, "lock_token="+offered.Token)
	}
	expect(409, "/"+offered.ID+":reject", "lock_token="+offered.Token)
	for range 2 {
		expect(204, answer, "warm")
	}
	expect(204, settle, "lock_token="+offered.Token)
	expect(409, answer, "cold")
	expect(409, "/"+offered.ID+"/response?status=500", "warm")
	s.kill()
	s = serve(t, data, "--open")
	expect(204, answer, "warm")
	expect(409, answer, "cold")
	s.stop()
}
