package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	neturl "net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	nats "github.com/nats-io/nats-server/v2/server"
)

// startNATS runs somebody's own NATS server on a free port.
func startNATS(t *testing.T, jetStream bool) (url string) {
	t.Helper()
	return runNATS(t, &nats.Options{Port: nats.RANDOM_PORT, JetStream: jetStream, StoreDir: t.TempDir(), SyncAlways: true}).ClientURL()
}

// runNATS runs one with the given options until the test ends.
func runNATS(t *testing.T, o *nats.Options) *nats.Server {
	t.Helper()
	o.Host, o.HTTPHost, o.NoSigs, o.NoLog, o.MaxPayload = "127.0.0.1", "127.0.0.1", true, true, 2<<20
	ns, err := nats.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(patience) {
		t.Fatal("the NATS server is not ready")
	}
	return ns
}

// startNATSCluster runs a cluster of three servers until the test ends.
func startNATSCluster(t *testing.T) (url string) {
	t.Helper()
	var routes [3]*neturl.URL
	for i := range routes {
		routes[i] = &neturl.URL{Scheme: "nats", Host: freeAddress(t)}
	}
	var all [3]*nats.Server
	for i, at := range routes {
		port, err := strconv.Atoi(at.Port())
		if err != nil {
			t.Fatal(err)
		}
		all[i] = runNATS(t, &nats.Options{
			Port: nats.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true, ServerName: fmt.Sprint("n", i),
			Cluster: nats.ClusterOpts{Name: "c", Host: at.Hostname(), Port: port}, Routes: routes[:],
		})
	}
	eventually(t, "a leader that knows all three", func() bool {
		return slices.ContainsFunc(all[:], func(s *nats.Server) bool {
			return s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(all)
		})
	})
	return all[0].ClientURL()
}

// TestExternalNATS serves on a NATS server that somebody else runs, is killed,
// and has lost nothing.
func TestExternalNATS(t *testing.T) {
	t.Parallel()
	url, data := startNATS(t, true), t.TempDir()
	flags := []string{"--open", "--nats", url, "--store", "sqlite:" + data + "/rows.db"}
	s := serve(t, data, flags...)
	if s.addresses["durability"] != "trusted" {
		t.Errorf("durability on an external server is %q", s.addresses["durability"])
	}
	send, closeIt, err := sendMQTT(t.Context(), s, "dev1")
	if err != nil {
		t.Fatal(err)
	}
	if err := send([]byte(`{"n":1}`)); err != nil {
		t.Fatal(err)
	}
	closeIt()
	s.kill()
	s = serve(t, data, flags...)
	if rows := s.query("dev1"); len(rows) != 1 {
		t.Errorf("%d messages are stored after a kill, expected 1", len(rows))
	}
	s.stop()
}

// TestStrictOnAnExternalServer is verified at its monitoring address, and looked
// at again when the server comes back as another.
func TestStrictOnAnExternalServer(t *testing.T) {
	t.Parallel()
	at := nats.Options{Port: nats.RANDOM_PORT, HTTPPort: nats.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true}
	ns := runNATS(t, &at)
	at.Port, at.HTTPPort = ns.Addr().(*net.TCPAddr).Port, ns.MonitorAddr().Port
	data := t.TempDir()
	s := serve(t, data, "--open", "--durability", "strict", "--nats", ns.ClientURL(), "--nats-monitor", "http://"+ns.MonitorAddr().String(), "--store", "sqlite:"+data+"/rows.db")
	if s.addresses["durability"] != "verified" {
		t.Errorf("durability is %q", s.addresses["durability"])
	}
	if all := s.readiness(); !strings.Contains(all, "strict, verified") || !strings.Contains(all, "fsyncs always, seen ") {
		t.Errorf("/readyz says %s", all)
	}
	again := func(always bool) {
		ns.Shutdown()
		ns.WaitForShutdown()
		o := at
		o.SyncAlways = always
		ns = runNATS(t, &o)
	}
	again(false)
	eventually(t, "the server is seen to be lazy", func() bool {
		return s.ready() == http.StatusServiceUnavailable && strings.Contains(s.readiness(), "sync_interval: always")
	})
	again(true)
	eventually(t, "it is seen to be as before", func() bool { return s.ready() == http.StatusOK })
	s.stop()
}

// TestAnExternalNATSThatLostItsStreams is started again on an empty directory under a node
// that goes on: the node says what is gone, acknowledges nothing, and ends with an error.
// Started anew it makes the streams, and its store goes on with them.
func TestAnExternalNATSThatLostItsStreams(t *testing.T) {
	t.Parallel()
	at := nats.Options{Port: nats.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true}
	ns := runNATS(t, &at)
	at.Port = ns.Addr().(*net.TCPAddr).Port
	data := t.TempDir()
	flags := []string{"--open", "--nats", ns.ClientURL(), "--store", "sqlite:" + data + "/rows.db"}
	s := serve(t, data, flags...)
	one := func(key string) bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return sendKeyed(ctx, http.DefaultClient, s.addresses["http"], "dev1", key)
	}
	if !one("before") || len(s.query("dev1")) != 1 {
		t.Fatal("nothing was stored to begin with")
	}
	ns.Shutdown()
	ns.WaitForShutdown()
	at.StoreDir = t.TempDir()
	runNATS(t, &at)
	eventually(t, "it says what is gone", func() bool {
		all := s.readiness()
		return strings.Contains(all, "are gone: ") && strings.Contains(all, "TELEMETRY")
	})
	if one("meanwhile") {
		t.Error("a message was acknowledged without a stream to hold it")
	}
	s.cmd.Cancel() // waits until it has ended, by itself
	if code := s.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(s.log.String(), "when this process is started anew it makes what is missing") {
		t.Errorf("it ended with %d", code)
	}
	s = serve(t, data, flags...)
	eventually(t, "it is ready", func() bool { return s.ready() == http.StatusOK })
	if !one("after") {
		t.Error("a message was not acknowledged")
	}
	if rows := s.query("dev1"); len(rows) != 2 || rows[0].Key != "before" || rows[1].Key != "after" {
		t.Errorf("the store has %+v", rows)
	}
	s.stop()
}

// TestExternalNATSWithoutJetStream is refused with what is missing.
func TestExternalNATSWithoutJetStream(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := program(ctx, "serve", "--data", data, "--nats", startNATS(t, false), "--store", "sqlite:"+data+"/rows.db",
		"--mqtt", "off", "--amqp", "off", "--http", "off", "--grpc", "off", "--admin", "off", "--mqtts", "off", "--amqps", "off", "--https", "off", "--nats-listen", "off").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "JetStream") {
		t.Errorf("%v, said %q", err, out)
	}
}
