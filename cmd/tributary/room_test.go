package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/internal/peer"
)

// lockStore lets nobody write to the store's file until unlock is called.
func lockStore(t testing.TB, s *server) (unlock func()) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.data, "store", "tributary.db")+"?_txlock=immediate&_pragma=busy_timeout(60000)")
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	unlock = sync.OnceFunc(func() {
		if err := errors.Join(tx.Rollback(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(unlock)
	return unlock
}

// TestAFullStreamInEveryProtocol fills the stream while the store takes nothing:
// each protocol says so in its own words, commands and operators get through,
// and with the store back everything goes on by itself.
func TestAFullStreamInEveryProtocol(t *testing.T) {
	t.Parallel()
	pub := peer.Command(t, "mosquitto_pub")
	s := serve(t, t.TempDir(), "--open", "--stream-max-bytes", "16MiB")
	unlock := lockStore(t, s)
	acked, answer := 0, ""
	post := func() (status int) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addresses["http"]+"/v1/devices/filler/telemetry", bytes.NewReader(make([]byte, 64<<10)))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/octet-stream")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answer = fmt.Sprint(response.Header, string(body))
		if response.StatusCode == http.StatusNoContent {
			acked++
		}
		return response.StatusCode
	}
	full := func() bool { return strings.Contains(s.readiness(), "no telemetry is taken") }
	eventually(t, "the stream is full", func() bool { return post() != http.StatusNoContent && full() })
	if status := post(); status != http.StatusServiceUnavailable || !strings.Contains(answer, "Retry-After") || !strings.Contains(answer, "urn:tributary:problem:busy") {
		t.Errorf("HTTP: %d %s", status, answer)
	}
	if acked < 200 || acked > 300 { // of 64 KiB in 16 MiB
		t.Errorf("%d messages were taken", acked)
	}
	host, port, _ := strings.Cut(s.addresses["mqtt"], ":")
	out, err := exec.Command(pub, "-V", "mqttv5", "-h", host, "-p", port, "-q", "1", "-t", "five/telemetry", "-m", "1").CombinedOutput()
	if !strings.Contains(string(out), "Quota exceeded") {
		t.Errorf("MQTT 5: %v, %s", err, out)
	}
	ways := map[string]sender{"mqtt": sendMQTT, "amqp": sendAMQP, "http": sendHTTP}
	for name, connect := range ways {
		send, closeIt, err := connect(t.Context(), s, name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		err = send([]byte("1"))
		closeIt()
		if err == nil {
			t.Errorf("%s: a message was taken", name)
		}
		if refused := (*amqp.Error)(nil); name == "amqp" && (!errors.As(err, &refused) || refused.Condition != amqp.ErrCondResourceLimitExceeded) {
			t.Errorf("AMQP: %v", err)
		}
	}
	s.addDevice("new")
	s.client("send", "dev3", "heat", `{"on":true}`, "--one-way")
	if text, err := askHTTP(t.Context(), "http://"+s.addresses["http"]+"/v1/devices/dev3/commands?ack=auto", func(*http.Request) {}); err != nil || !strings.Contains(text, "heat") {
		t.Errorf("the command did not arrive: %v, %s", err, text)
	}
	unlock()
	eventually(t, "it is ready", func() bool { return s.ready() == http.StatusOK })
	for name, connect := range ways {
		send, closeIt, err := connect(t.Context(), s, name)
		if err == nil {
			err = send([]byte("1"))
			closeIt()
		}
		if err != nil {
			t.Errorf("%s, with room again: %v", name, err)
		}
	}
	for range 300 { // more than the stream holds
		if status := post(); status != http.StatusNoContent && status != http.StatusServiceUnavailable {
			t.Fatalf("%d: %s", status, answer)
		}
	}
	eventually(t, "everything is stored", func() bool { return strings.Contains(s.readiness(), " 0 messages behind") })
	if n := len(s.query("filler")); n != acked {
		t.Errorf("%d messages are stored and %d were acknowledged", n, acked)
	}
	s.stop()
}

// fillDisk takes all that the disk has left; free gives it back.
func fillDisk(t testing.TB, dir string) (free func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 1<<20); len(chunk) > 0 && err == nil; {
		if _, err = f.Write(chunk); err != nil {
			chunk, err = chunk[:len(chunk)/2], nil
		}
	}
	f.Close()
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Error(err)
		}
	}
}

// TestAFullDisk fills the disk under load, with a reserve and without: nothing
// is acknowledged while it is full, the server goes on by itself once there is
// room, and nothing acknowledged is lost.
func TestAFullDisk(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"with a reserve": nil, "without": {"--disk-reserve", "1"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := peer.SmallDisk(t, 192)
			testFullDisk(t, dir, serve(t, filepath.Join(dir, "data"), append(args, "--open")...))
		})
	}
}

func testFullDisk(t *testing.T, dir string, s *server) {
	const rounds = 2
	load := loadKeyed(t, s)
	for round := range int64(rounds) {
		before := load.count.Load()
		eventually(t, "messages flow", func() bool { return load.count.Load() > before+20 })
		free := fillDisk(t, dir)
		filled := time.Now()
		eventually(t, "it is not ready", func() bool { return s.ready() != http.StatusOK })
		t.Logf("round %d: not ready %s after the disk was full", round+1, time.Since(filled).Round(time.Millisecond))
		// The last page of a file may take a message even now; that one is stored.
		eventually(t, "no room, or a fault", func() bool {
			text := s.readiness()
			return strings.Contains(text, "restart:") || strings.Contains(text, "no telemetry is taken")
		})
		load.failing.Store(round + 1)
		during := load.count.Load()
		for range 3 {
			if sendKeyed(t.Context(), http.DefaultClient, s.addresses["http"], "probe", "") {
				t.Error("a message was acknowledged on a full disk")
			}
		}
		if n := load.count.Load(); n > during+4 { // what was answered before and counted after
			t.Errorf("%d acknowledgements on a full disk", n-during)
		}
		if err := s.cmd.Process.Signal(syscall.Signal(0)); err != nil {
			t.Fatalf("the server has ended: %v", err)
		}
		load.failing.Store(0)
		free()
		eventually(t, "it is ready", func() bool { return s.ready() == http.StatusOK })
	}
	before := load.count.Load()
	eventually(t, "messages flow again", func() bool { return load.count.Load() > before+20 })
	n := s.metric("tributary_nats_restarts_total")
	t.Logf("the stream was restarted %.0f times", n)
	if n > rounds {
		t.Errorf("that is more than there were faults: %d", rounds)
	}
	load.verify()
	s.stop()
}

// keyedLoad is four devices that send keyed messages over HTTP until verify.
type keyedLoad struct {
	t              *testing.T
	s              *server
	stop           context.CancelFunc
	senders        sync.WaitGroup
	acked          sync.Map
	count, failing atomic.Int64 // failing: no acknowledgement may come
}

func loadKeyed(t *testing.T, s *server) *keyedLoad {
	l := &keyedLoad{t: t, s: s}
	var ctx context.Context
	ctx, l.stop = context.WithCancel(t.Context())
	client := &http.Client{Timeout: 30 * time.Second}
	for w := range 4 {
		l.senders.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("%d-%d", w, n)
				began := l.failing.Load()
				if sendKeyed(ctx, client, s.addresses["http"], fmt.Sprintf("dev%d", w), key) {
					l.acked.Store(key, true)
					l.count.Add(1)
					if began != 0 && l.failing.Load() == began {
						t.Errorf("%s was acknowledged while nothing could be stored", key)
					}
				}
			}
		})
	}
	return l
}

// verify ends the load and looks for each acknowledged message.
func (l *keyedLoad) verify() {
	l.t.Helper()
	l.stop()
	l.senders.Wait()
	stored := map[string]int{}
	for w := range 4 {
		for _, r := range l.s.query(fmt.Sprintf("dev%d", w)) {
			stored[r.Key]++
		}
	}
	l.acked.Range(func(key, _ any) bool {
		if n := stored[key.(string)]; n != 1 {
			l.t.Errorf("%s was acknowledged and is stored %d times", key, n)
		}
		return true
	})
	l.t.Logf("%d acknowledged", l.count.Load())
}
