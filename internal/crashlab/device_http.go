package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
)

// httpLink is a device on HTTP, by the standard library, on one connection.
type httpLink struct {
	device, url string
	client      *http.Client
}

func connectHTTP(_ context.Context, addr, device string) (link, error) {
	url := "http://" + addr + "/v1/devices/" + device + "/telemetry/room"
	// net/http sends a request again by itself when it thinks that is safe, which
	// an Idempotency-Key tells it: right in the field, but here sends are counted.
	transport := &http.Transport{MaxConnsPerHost: 1}
	return &httpLink{device, url, &http.Client{Transport: transport}}, nil
}

func (l *httpLink) send(ctx context.Context, m *message, done func(error)) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url, io.NopCloser(bytes.NewReader(payload(m.n))))
	if err != nil {
		return err
	}
	request.ContentLength = int64(len(payload(m.n)))
	request.Header.Set("Content-Type", "application/json")
	if key := m.key(l.device); key != "" {
		request.Header.Set("Idempotency-Key", `"`+key+`"`)
	}
	go func() { done(l.do(request)) }()
	return nil
}

func (l *httpLink) do(request *http.Request) error {
	response, err := l.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)); err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s", response.Status)
	}
	return nil
}

func (l *httpLink) close() { l.client.CloseIdleConnections() }
