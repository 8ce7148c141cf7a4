package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
	s := serve(t, t.TempDir(), "--open")
	standing := peerDevices[0].start(t, s, "standing") // its session outlives the faults
	standing.expect("sent")
	client := &http.Client{Timeout: 30 * time.Second}
	var acked sync.Map
	var count, failing atomic.Int64 // failing: no acknowledgement may come
	ctx, cancel := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	for w := range 4 {
		senders.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("%d-%d", w, n)
				began := failing.Load()
				if sendKeyed(ctx, client, s.addresses["http"], "dev"+strconv.Itoa(w), key) {
					acked.Store(key, true)
					count.Add(1)
					if began != 0 && failing.Load() == began {
						t.Errorf("%s was acknowledged while the disk took nothing", key)
					}
				}
			}
		})
	}
	for round := range int64(3) {
		before := count.Load()
		eventually(t, "messages flow", func() bool { return count.Load() > before+20 })
		s.limitFiles("64")
		eventually(t, "it is not ready", func() bool { return s.ready() != http.StatusOK })
		failing.Store(round + 1)
		during := count.Load()
		eventually(t, "the disk was tried in vain", func() bool { return strings.Contains(s.readiness(), "restart:") })
		if n := count.Load(); n > during+4 { // what was answered before the fault and counted after
			t.Errorf("%d acknowledgements after the fault", n-during)
		}
		failing.Store(0)
		s.limitFiles("unlimited")
		eventually(t, "it is ready", func() bool { return s.ready() == http.StatusOK })
	}
	before := count.Load()
	eventually(t, "messages flow again", func() bool { return count.Load() > before+20 })
	cancel()
	senders.Wait()
	if out := s.client("send", "standing", "heat", `{"on":true}`, "--wait", "30s"); !strings.Contains(out, "SUCCEEDED") {
		t.Errorf("a command after the faults: %s", out)
	}
	standing.succeeded()
	stored := map[string]int{}
	for w := range 4 {
		for _, r := range s.query("dev" + strconv.Itoa(w)) {
			stored[r.Key]++
		}
	}
	acked.Range(func(key, _ any) bool {
		if stored[key.(string)] != 1 {
			t.Errorf("%s was acknowledged and is stored %d times", key, stored[key.(string)])
		}
		return true
	})
	t.Logf("%d acknowledged", count.Load())
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
