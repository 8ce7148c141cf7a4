package main

import (
	"context"
	"strings"
	"testing"
	"time"

	nats "github.com/nats-io/nats-server/v2/server"
)

// startNATS runs somebody's own NATS server on a free port.
func startNATS(t *testing.T, jetStream bool) (url string) {
	t.Helper()
	ns, err := nats.NewServer(&nats.Options{
		Host: "127.0.0.1", Port: nats.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: jetStream, StoreDir: t.TempDir(), SyncAlways: true, MaxPayload: 2 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(patience) {
		t.Fatal("the NATS server is not ready")
	}
	return ns.ClientURL()
}

// TestExternalNATS serves on a NATS server that somebody else runs, is killed,
// and has lost nothing.
func TestExternalNATS(t *testing.T) {
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

// TestExternalNATSWithoutJetStream is refused with what is missing.
func TestExternalNATSWithoutJetStream(t *testing.T) {
	data := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := program(ctx, "serve", "--data", data, "--nats", startNATS(t, false), "--store", "sqlite:"+data+"/rows.db",
		"--mqtt", "off", "--amqp", "off", "--http", "off", "--grpc", "off", "--admin", "off", "--mqtts", "off", "--amqps", "off", "--https", "off", "--nats-listen", "off").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "JetStream") {
		t.Errorf("%v, said %q", err, out)
	}
}
