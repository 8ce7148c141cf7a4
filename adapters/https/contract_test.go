package https_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/https"
)

func TestContract(t *testing.T) {
	adaptertest.Check(t, adaptertest.Subject{
		Open: func(gate adapters.Gate) (adapters.Adapter, error) {
			return https.Open(https.Config{Addr: "127.0.0.1:0"}, gate)
		},
		Dial: func(_ context.Context, a adapters.Adapter, login adaptertest.Login) (adaptertest.Client, error) {
			ctx, cancel := context.WithCancel(context.Background())
			base := "http://" + a.Addrs()["http"].String() + "/v1/devices/"
			return &contractClient{ctx, cancel, base, login, &http.Client{Transport: &http.Transport{}}}, nil
		},
	})
}

// contractClient is net/http's client; its connections are made as needed.
type contractClient struct {
	alive  context.Context
	cancel func()
	base   string
	login  adaptertest.Login
	http   *http.Client
}

func (c *contractClient) do(ctx context.Context, method, path, body string) (reply, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.alive, cancel)()
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	request.SetBasicAuth(c.login.User, c.login.Secret)
	response, err := c.http.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return reply{response.StatusCode, response.Header, string(answer)}, err
}

func (c *contractClient) Send(ctx context.Context, to string, payload []byte) error {
	if to == "" {
		to = c.login.User
	}
	_, err := c.do(ctx, "POST", to+"/telemetry", string(payload))
	return err
}

func (c *contractClient) Receive(ctx context.Context) (adaptertest.Received, error) {
	for {
		r, err := c.do(ctx, "GET", c.login.User+"/commands?wait=20s&lock=1s", "")
		if err != nil {
			return adaptertest.Received{}, err
		}
		if r.status == http.StatusNoContent {
			continue
		}
		o, err := parseOffer(r.body)
		return adaptertest.Received{ID: o.ID, Payload: o.Payload, Repeat: o.Attempt > 1, Accept: func(ctx context.Context) error {
			_, err := c.do(ctx, "POST", c.login.User+"/commands/"+o.ID+":accept", "lock_token="+o.LockToken)
			return err
		}}, err
	}
}

func (c *contractClient) Close() {
	c.cancel()
	c.http.CloseIdleConnections()
}
