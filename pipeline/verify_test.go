package pipeline

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// verifiable runs a server with a monitoring address and a system account.
func verifiable(t *testing.T, change func(*natsserver.Options)) *natsserver.Server {
	t.Helper()
	system, ours := natsserver.NewAccount("SYS"), natsserver.NewAccount("OURS")
	o := &natsserver.Options{Host: "127.0.0.1", Port: -1, HTTPHost: "127.0.0.1", HTTPPort: -1, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: storeDir(t), JetStreamMaxStore: 4 << 30, SyncAlways: true,
		Accounts: []*natsserver.Account{system, ours}, SystemAccount: "SYS",
		Users: []*natsserver.User{{Username: "sys", Password: "secret", Account: system}, {Username: "u", Password: "p", Account: ours}},
	}
	change(o)
	s, err := natsserver.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server did not start")
	}
	ours, err = s.LookupAccount("OURS")
	if err != nil {
		t.Fatal(err)
	}
	if err := ours.EnableJetStream(nil, nil); err != nil {
		t.Fatal(err)
	}
	return s
}

func asUs(s *natsserver.Server) string {
	return strings.Replace(s.ClientURL(), "nats://", "nats://u:p@", 1)
}

func monitors(servers ...*natsserver.Server) Verify {
	var v Verify
	for _, s := range servers {
		v.Monitor = append(v.Monitor, "http://"+s.MonitorAddr().String())
	}
	return v
}

func systemUser(t *testing.T, line string) Verify {
	t.Helper()
	file := filepath.Join(t.TempDir(), "system.creds")
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	return Verify{SystemCreds: file}
}

// tryOpen opens a belt and answers what it says of its durability.
func tryOpen(t *testing.T, o Options) (d Durability, seen string, err error) {
	t.Helper()
	b, err := Open(t.Context(), o)
	if err != nil {
		return "", "", err
	}
	defer stopWithin(t, b.Close)
	seen, wrong := b.Verification()
	return b.Durability(), seen + fmt.Sprint(wrong), nil
}

// TestStrictIsVerified: a server that fsyncs always is seen to, by either way;
// one that does not, or cannot be seen, is refused, unless it is trusted.
func TestStrictIsVerified(t *testing.T) {
	t.Parallel()
	always := verifiable(t, func(*natsserver.Options) {})
	lazy := verifiable(t, func(o *natsserver.Options) { o.SyncAlways = false })
	for _, c := range []struct {
		what       string
		server     *natsserver.Server
		durability Durability
		verify     Verify
		replicas   int
		is         Durability
		says       string // of what was seen, or the refusal
	}{
		{"monitored", always, Strict, monitors(always), 1, Verified, always.Name() + " fsyncs always"},
		{"with a path", always, Strict, Verify{Monitor: []string{monitors(always).Monitor[0] + "/"}}, 1, Verified, always.Name() + " fsyncs always"},
		{"system account", always, Strict, systemUser(t, "sys:secret\n"), 1, Verified, always.Name() + " fsyncs always"},
		{"no means", always, Strict, Verify{}, 1, Trusted, ""},
		{"lazy, monitored", lazy, Strict, monitors(lazy), 1, "", "set jetstream { sync_interval: always }"},
		{"lazy, system account", lazy, Strict, systemUser(t, "sys:secret"), 1, "", "set jetstream { sync_interval: always }"},
		{"lazy, trusted", lazy, Trusted, monitors(lazy), 1, Trusted, "sync_interval: always"},
		{"lazy, relaxed", lazy, Relaxed, Verify{}, 1, Relaxed, ""},
		{"another server's address", lazy, Strict, monitors(always), 1, "", "only " + always.Name() + " answered"},
		{"nobody there", always, Strict, Verify{Monitor: []string{"http://127.0.0.1:1"}}, 1, "", "--durability trusted"},
		{"nobody there, trusted", always, Trusted, Verify{Monitor: []string{"http://127.0.0.1:1"}}, 1, Trusted, "cannot be looked at"},
		{"no such page", always, Strict, Verify{Monitor: []string{monitors(always).Monitor[0] + "/nothing"}}, 1, "", "404"},
		{"wrong password", always, Strict, systemUser(t, "sys:wrong"), 1, "", "system account"},
		{"not of the system account", always, Strict, systemUser(t, "u:p"), 1, "", "system account"},
		{"not credentials", always, Strict, systemUser(t, "nothing"), 1, "", "neither NATS credentials nor"},
		{"no file", always, Strict, Verify{SystemCreds: filepath.Join(t.TempDir(), "none")}, 1, "", "no such file"},
		{"fewer copies than asked", always, Strict, monitors(always), 3, "", "--nats-replicas"},
	} {
		d, says, err := tryOpen(t, Options{URL: asUs(c.server), Durability: c.durability, Verify: c.verify, Replicas: c.replicas})
		if err != nil {
			says = err.Error()
		}
		if (err == nil) != (c.is != "") || d != c.is || !strings.Contains(says, c.says) {
			t.Errorf("%s: %q, %v; said %q, want %q with %q", c.what, d, err, says, c.is, c.says)
		}
	}
}

// TestAnAsyncStreamIsNoPromise: a stream made by somebody else that
// acknowledges before it writes is refused, on a server that fsyncs.
func TestAnAsyncStreamIsNoPromise(t *testing.T) {
	t.Parallel()
	s := verifiable(t, func(*natsserver.Options) {})
	b, err := Open(t.Context(), Options{URL: asUs(s)})
	if err != nil {
		t.Fatal(err)
	}
	defer stopWithin(t, b.Close)
	if err := b.js.DeleteStream(t.Context(), TelemetryStream); err != nil {
		t.Fatal(err)
	}
	made := b.streamConfigs()[0]
	made.PersistMode, made.AllowAtomicPublish = jetstream.AsyncPersistMode, false
	if _, err := b.js.CreateStream(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{URL: asUs(s)}); err == nil || !strings.Contains(err.Error(), "persist mode async") {
		t.Errorf("a stream with persist mode async: %v", err)
	}
}

// clusterOf starts n servers of one cluster, n0 and so on.
func clusterOf(t *testing.T, n int, change func(i int, o *natsserver.Options)) []*natsserver.Server {
	t.Helper()
	var all []*natsserver.Server
	for i := range n {
		o := &natsserver.Options{
			Host: "127.0.0.1", Port: -1, HTTPHost: "127.0.0.1", HTTPPort: -1, NoSigs: true, NoLog: true, ServerName: fmt.Sprintf("n%d", i),
			JetStream: true, StoreDir: storeDir(t), JetStreamMaxStore: 4 << 30, SyncAlways: true,
			Cluster: natsserver.ClusterOpts{Name: t.Name(), Host: "127.0.0.1", Port: -1}, Routes: routesTo(all, n-1), // a port may be another test's later
		}
		change(i, o)
		s, err := natsserver.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		go s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		if !s.ReadyForConnections(time.Minute) {
			t.Fatal("a server did not start")
		}
		all = append(all, s)
	}
	eventually(t, "the cluster has a leader and all its members", func() bool {
		for _, s := range all {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == n {
				return true
			}
		}
		return false
	})
	return all
}

// TestStrictIsVerifiedInACluster: every server with a copy of a stream counts.
func TestStrictIsVerifiedInACluster(t *testing.T) {
	t.Parallel()
	all := clusterOf(t, 3, func(int, *natsserver.Options) {})
	url := all[0].ClientURL()
	b := openOn(t, Options{URL: url, Replicas: 3, Verify: monitors(all...)})
	if seen, err := b.Verification(); err != nil || !strings.HasPrefix(seen, "n0, n1, n2 fsyncs always") {
		t.Errorf("saw %q, %v", seen, err)
	}
	if _, _, err := tryOpen(t, Options{URL: url, Replicas: 3, Verify: monitors(all[0], all[1])}); err == nil || !strings.Contains(err.Error(), "only n0, n1 answered") {
		t.Errorf("with a server nobody can see: %v", err)
	}
	done := make(chan error, 1)
	if err := b.Submit(testMessage("d", 1), func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// One that is gone acknowledges nothing: the others are what counts.
	all[2].Shutdown()
	eventually(t, "two are enough", func() bool {
		err := b.verifier.look(t.Context())
		seen, _ := b.Verification()
		return err == nil && strings.HasPrefix(seen, "n0, n1 fsyncs always")
	})
}

// TestOneLazyServerIsNotStrict: with three copies its word may be what makes a majority.
func TestOneLazyServerIsNotStrict(t *testing.T) {
	t.Parallel()
	all := clusterOf(t, 3, func(i int, o *natsserver.Options) { o.SyncAlways = i < 2 })
	_, _, err := tryOpen(t, Options{URL: all[0].ClientURL(), Replicas: 3, Verify: monitors(all...)})
	if err == nil || !strings.Contains(err.Error(), "n2 does not fsync") {
		t.Errorf("with one server of three that does not fsync: %v", err)
	}
}

// routesTo names as many other servers as a cluster has, so that it knows its
// size: those there are, and addresses where nobody will ever be. All hear of
// one another from the first.
func routesTo(all []*natsserver.Server, others int) []*url.URL {
	var routes []*url.URL
	for i := range others {
		at := fmt.Sprintf("127.0.0.1:%d", i+1)
		if i < len(all) {
			at = all[i].ClusterAddr().String()
		}
		routes = append(routes, &url.URL{Scheme: "nats", Host: at})
	}
	return routes
}
