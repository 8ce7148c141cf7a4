package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMetricsOffLoopback: an admin listener that others can reach speaks TLS,
// and shows metrics to whoever may read them.
func TestMetricsOffLoopback(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "--admin", "0.0.0.0:0")
	operator, err := os.ReadFile(filepath.Join(s.data, tokenFile))
	if err != nil {
		t.Fatal(err)
	}
	viewer, _ := s.newToken("prometheus", "viewer", "acme")
	application, _ := s.newToken("consumer", "application", "default")
	secure, err := clientTLS("", s.authority(), "")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(s.addresses["admin"])
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: secure}, Timeout: patience}
	for _, c := range []struct {
		page, header string
		code         int
		says         string
	}{
		{"/metrics", "", 401, "tributary token create"},
		{"/metrics", "Basic eDp5", 401, "tributary token create"},
		{"/metrics", "Bearer wrong", 401, "not known here"},
		{"/metrics", "Bearer " + application, 403, "viewer"},
		{"/metrics", "Bearer " + viewer, 200, "tributary_store_"},
		{"/metrics", "Bearer " + strings.TrimSpace(string(operator)), 200, "tributary_store_"},
		{"/healthz", "", 200, "ok"},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://127.0.0.1:%s%s", port, c.page), nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.header != "" {
			request.Header.Set("Authorization", c.header)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != c.code || !strings.Contains(string(body), c.says) {
			t.Errorf("%s with %.12q is answered %s, %v: %.200s", c.page, c.header, response.Status, err, body)
		}
	}
	s.client("token", "rm", "prometheus", "--tenant", "acme")
	s.stop()
}
