package main

import (
	"context"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/internal/peer"
)

// limitFiles lets no file of the server grow beyond what is given: its writes
// fail then as on a full disk.
func (s *server) limitFiles(bytes string) {
	s.t.Helper()
	out, err := exec.Command(peer.Command(s.t, "prlimit"), "--pid", strconv.Itoa(s.cmd.Process.Pid), "--fsize="+bytes+":").CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
}

// TestADiskThatRefusesAndRecovers fails every write of a server under load, and
// lifts the fault again, three times: not ready at once, no acknowledgement
// meanwhile, ready again by itself, and nothing acknowledged is lost.
func TestADiskThatRefusesAndRecovers(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "--open")
	standing := peerDevices[0].start(t, s, "standing") // its session outlives the faults
	standing.expect("sent")
	load := loadKeyed(t, s)
	for round := range int64(3) {
		before := load.count.Load()
		eventually(t, "messages flow", func() bool { return load.count.Load() > before+20 })
		s.limitFiles("64")
		eventually(t, "it is not ready", func() bool { return s.ready() != http.StatusOK })
		load.failing.Store(round + 1)
		during := load.count.Load()
		eventually(t, "the disk was tried in vain", func() bool { return strings.Contains(s.readiness(), "restart:") })
		if n := load.count.Load(); n > during+4 { // what was answered before the fault and counted after
			t.Errorf("%d acknowledgements after the fault", n-during)
		}
		load.failing.Store(0)
		s.limitFiles("unlimited")
		eventually(t, "it is ready", func() bool { return s.ready() == http.StatusOK })
	}
	before := load.count.Load()
	eventually(t, "messages flow again", func() bool { return load.count.Load() > before+20 })
	if out := s.client("send", "standing", "heat", `{"on":true}`, "--wait", "30s"); !strings.Contains(out, "SUCCEEDED") {
		t.Errorf("a command after the faults: %s", out)
	}
	standing.succeeded()
	load.verify()
	s.stop()
}

// readiness is what /readyz says of every part.
func (s *server) readiness() string {
	s.t.Helper()
	response, err := http.Get("http://" + s.addresses["admin"] + "/readyz?verbose")
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

func (s *server) ready() int {
	s.t.Helper()
	response, err := http.Get("http://" + s.addresses["admin"] + "/readyz")
	if err != nil {
		s.t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// sendKeyed posts one message and says whether it was acknowledged.
func sendKeyed(ctx context.Context, client *http.Client, addr, device, key string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/v1/devices/"+device+"/telemetry", strings.NewReader("1"))
	if err != nil {
		return false
	}
	request.Header.Set("Idempotency-Key", key)
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode/100 == 2
}
