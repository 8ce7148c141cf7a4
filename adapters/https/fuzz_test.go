package https_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/https"
)

// FuzzRequest sends requests of any parts: each is answered in HTTP, or the
// connection ends, and never by a fault of ours.
func FuzzRequest(f *testing.F) {
	reg := prometheus.NewRegistry()
	server, err := https.Open(https.Config{
		Addr: "127.0.0.1:0", Registerer: reg, MaxMessageBytes: 1000, MaxWait: time.Millisecond, Linger: time.Millisecond, Heartbeat: time.Millisecond,
	}, &adaptertest.Gate{})
	if err != nil {
		f.Fatal(err)
	}
	go func() { _ = server.Serve() }()
	f.Cleanup(func() { _ = server.Shutdown(f.Context()) })
	f.Add("POST", "/v1/devices/d/telemetry/a%2Fb", "Content-Type: application/json\r\nIdempotency-Key: \"k\"\r\nTributary-Property-A: b", `{"t":1}`)
	f.Add("POST", "/v1/devices/d/telemetry", "ce-specversion: 1.0\r\nce-id: %41\r\nce-source: \"a\\\"b\"\r\nce-type: t\r\nce-time: 2018-04-05T03:56:24Z", "1")
	f.Add("POST", "/v1/devices/d/telemetry", "Content-Type: application/cloudevents-batch+json", `[{"specversion":"1.0","id":"1","source":"s","type":"t"}]`)
	f.Add("GET", "/v1/devices/d/commands?wait=1ms&lock=1s&max=2&ack=auto", "Accept: text/event-stream", "")
	f.Add("POST", "/v1/devices/d/commands/c:accept?reason=r", "Authorization: Basic ZEB0OnM=", `{"lock_token":"x"}`)
	f.Add("POST", "/v1/devices/d/commands/c:reject", "Content-Type: application/x-www-form-urlencoded", "lock_token=x&reason=y")
	f.Add("POST", "/v1/devices/d/commands/c/response?status=200", "Date: Mon, 04 May 2026 03:02:01 GMT\r\nTributary-Created-At: 2026-05-04T03:02:01Z", "")
	f.Fuzz(func(t *testing.T, method, target, headers, body string) {
		conn, err := net.Dial("tcp", server.Addrs()["http"].String())
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			return // a long run has every port of this machine in TIME_WAIT: nothing was sent
		}
		if err != nil {
			t.Fatalf("the door is gone: %v", err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		headers = strings.TrimSpace(headers) + "\r\n"
		_, _ = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: door\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n%s", method, target, len(body), headers, body)
		_ = conn.(*net.TCPConn).CloseWrite()
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil {
			if response.StatusCode == http.StatusInternalServerError {
				t.Fatalf("%q %q %q %q is an internal error", method, target, headers, body)
			}
			_, err = io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Fatalf("%q %q %q %q: the answer does not end", method, target, headers, body)
		}
		if panics(t, reg) != 0 {
			t.Fatalf("a fault of ours after %q %q %q %q", method, target, headers, body)
		}
	})
}

func panics(t *testing.T, reg *prometheus.Registry) (n float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "tributary_http_panics_total" {
			for _, m := range family.GetMetric() {
				n += m.GetCounter().GetValue()
			}
			return n
		}
	}
	t.Fatal("no panics counted at all")
	return 0
}
