package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// httpLink is a device on plain HTTP: it posts readings and polls for commands.
type httpLink struct {
	base   string
	client *http.Client
}

func connectHTTP(_ context.Context, addr, name string) (link, error) {
	client := &http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	return &httpLink{"http://" + addr + "/v1/devices/" + name, client}, nil
}

func (l *httpLink) send(ctx context.Context, payload []byte) error {
	_, err := l.do(ctx, http.MethodPost, "/telemetry/room", payload)
	return err
}

// offered is one command as the poll answers it.
type offered struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Payload   []byte `json:"payload"`
	LockToken string `json:"lock_token"`
}

func (l *httpLink) serve(ctx context.Context, obey handler) error {
	for ctx.Err() == nil {
		body, err := l.do(ctx, http.MethodGet, "/commands?wait=5s", nil)
		if err != nil {
			return err
		}
		if len(body) == 0 {
			continue
		}
		var c offered
		if err := json.Unmarshal(body, &c); err != nil {
			return fmt.Errorf("command: %w", err)
		}
		if err := l.carryOut(ctx, c, obey); err != nil {
			return err
		}
	}
	return nil
}

// carryOut settles the command and answers it.
func (l *httpLink) carryOut(ctx context.Context, c offered, obey handler) error {
	token, err := json.Marshal(map[string]string{"lock_token": c.LockToken})
	if err != nil {
		return err
	}
	if _, err := l.do(ctx, http.MethodPost, "/commands/"+c.ID+":accept", token); err != nil {
		return err
	}
	status, answer := obey(c.Name, c.Payload)
	_, err = l.do(ctx, http.MethodPost, fmt.Sprintf("/commands/%s/response?status=%d", c.ID, status), answer)
	return err
}

func (l *httpLink) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, l.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := l.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 2<<20))
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, response.Status, answer)
	}
	return answer, nil
}

func (l *httpLink) close() { l.client.CloseIdleConnections() }
