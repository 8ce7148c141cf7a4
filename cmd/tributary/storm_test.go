package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// stormEnv is how many devices TestConnectStorm makes, unless it is unset.
const stormEnv = "TRIBUTARY_STORM"

// stormDevices is what every `make test` can bear.
const stormDevices = 300

// TestConnectStorm kills the server, starts it again, and lets all devices come
// at once, over TLS, one in ten of them with a wrong secret: all others get in
// and stay. TRIBUTARY_STORM=5000 makes it a real one.
func TestConnectStorm(t *testing.T) {
	n := stormDevices
	if said := os.Getenv(stormEnv); said != "" {
		var err error
		if n, err = strconv.Atoi(said); err != nil || n < 10 {
			t.Fatalf("%s=%s: say how many devices, 10 or more", stormEnv, said)
		}
	}
	if limit := descriptors(); limit > 0 && uint64(n+500) > limit {
		t.Fatalf("%d devices need %d descriptors in this process and as many in the server, and there may be %d: raise ulimit -n", n, n+500, limit)
	}
	data, port := t.TempDir(), freePort(t)
	flags := []string{"--mqtts", "127.0.0.1:" + port, "--max-connections", strconv.Itoa(n + 200)}
	s := serve(t, data, flags...)
	secrets := s.importDevices(n)
	s.kill()
	s = serve(t, data, flags...)
	st := &storm{t: t, s: s, trust: peerEncryption{ca: s.authority()}.config(t)}
	st.run(secrets)
	st.check(n)
	s.stop()
}

// freePort is one that nobody listens on, so that a server finds it again.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// importDevices registers n devices and answers their secrets, by name.
func (s *server) importDevices(n int) map[string]string {
	s.t.Helper()
	var names strings.Builder
	for i := range n {
		fmt.Fprintf(&names, "storm-%d\n", i)
	}
	file := filepath.Join(s.t.TempDir(), "devices.txt")
	if err := os.WriteFile(file, []byte(names.String()), 0o600); err != nil {
		s.t.Fatal(err)
	}
	secrets := map[string]string{}
	for _, d := range parseLines[struct{ Device, Secret string }](s.t, s.client("device", "import", file, "-o", "json")) {
		secrets[d.Device] = d.Secret
	}
	if len(secrets) != n {
		s.t.Fatalf("%d of %d devices were registered", len(secrets), n)
	}
	return secrets
}

// storm is all devices at once.
type storm struct {
	t     *testing.T
	s     *server
	trust *tls.Config

	mu      sync.Mutex
	in      []net.Conn      // of good devices
	took    []time.Duration // from dialling to CONNACK, of good devices
	refused int             // bad devices, in MQTT's words
	retries int
	all     time.Duration // until the last good device was in
}

func (st *storm) run(secrets map[string]string) {
	var devices sync.WaitGroup
	gate := make(chan struct{})
	i := 0
	for name, secret := range secrets {
		wrong := i%10 == 0
		if i++; wrong {
			secret = "trib_wrong"
		}
		devices.Go(func() {
			<-gate
			if err := st.connect(name, secret, wrong); err != nil {
				st.t.Errorf("%s: %v", name, err)
			}
		})
	}
	began := time.Now()
	close(gate)
	devices.Wait()
	st.all = time.Since(began)
}

// connect tries until it is answered, as a device would: a lost connection is
// tried again after a pause.
func (st *storm) connect(name, secret string, wrong bool) error {
	began := time.Now()
	for pause := 250 * time.Millisecond; ; pause *= 2 {
		conn, code, err := connectOnce(st.s.addresses["mqtts"], st.trust, name, secret)
		st.mu.Lock()
		switch {
		case err != nil:
			st.retries++
		case wrong:
			st.refused++
		default:
			st.in, st.took = append(st.in, conn), append(st.took, time.Since(began))
		}
		st.mu.Unlock()
		switch {
		case err != nil && time.Since(began) > 2*patience:
			return fmt.Errorf("not answered: %w", err)
		case err != nil:
			time.Sleep(pause) // a device's own back-off
			continue
		case wrong != (code == 4 || code == 5) || !wrong && code != 0:
			return fmt.Errorf("CONNACK %d, wrong secret %v", code, wrong)
		case wrong:
			conn.Close()
		}
		return nil
	}
}

// connectOnce speaks MQTT 3.1.1 over TLS as far as CONNACK and answers its code.
func connectOnce(addr string, trust *tls.Config, name, secret string) (net.Conn, byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := (&tls.Dialer{Config: trust}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, 0, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	body := []byte("\x00\x04MQTT\x04\xc2\x00\x00") // clean, user name and password, no keep-alive
	for _, field := range []string{name, name, secret} {
		body = binary.BigEndian.AppendUint16(body, uint16(len(field)))
		body = append(body, field...)
	}
	packet := append(binary.AppendUvarint([]byte{0x10}, uint64(len(body))), body...)
	answer := make([]byte, 4)
	_, err = conn.Write(packet)
	if err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if err == nil && answer[0] != 0x20 {
		err = fmt.Errorf("answered % x", answer)
	}
	if err != nil {
		conn.Close()
		return nil, 0, err
	}
	return conn, answer[3], nil
}

// check holds the storm to its promise and tells its figures.
func (st *storm) check(n int) {
	t, bad := st.t, (n+9)/10
	if len(st.in) != n-bad || st.refused != bad {
		t.Fatalf("%d of %d good devices are in, %d of %d bad ones were refused", len(st.in), n-bad, st.refused, bad)
	}
	for _, conn := range st.in {
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Write([]byte{0xc0, 0}); err != nil {
			t.Fatalf("a device that was in: %v", err)
		}
	}
	for _, conn := range st.in {
		answer, err := bufio.NewReaderSize(conn, 16).Peek(2)
		if err != nil || answer[0] != 0xd0 {
			t.Fatalf("a device that was in is answered % x, %v", answer, errors.Join(err))
		}
	}
	if got := st.s.metric("tributary_mqtt_connections"); got != float64(n-bad) {
		t.Errorf("the server counts %v connections", got)
	}
	slices.Sort(st.took)
	t.Logf("%d TLS devices at once, %d with wrong secrets: all good ones in after %s (median %s, p99 %s), %d retries; "+
		"server: %d handshakes, %.1f s CPU, %.0f MB resident",
		n, bad, st.all.Round(time.Millisecond), st.took[len(st.took)/2].Round(time.Millisecond), st.took[len(st.took)*99/100].Round(time.Millisecond), st.retries,
		int(st.s.metric("tributary_mqtt_tls_handshakes_total", `result="done"`)), st.s.metric("process_cpu_seconds_total"), st.s.metric("process_resident_memory_bytes")/1e6)
	for _, conn := range st.in {
		conn.Close()
	}
}
