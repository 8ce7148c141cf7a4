package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
)

// knock tries a credential at one door, with a message of the device when it is
// let in, and answers what the door said. "" is no credential.
type knock func(ctx context.Context, s *server, user, secret, device string) error

var knocks = map[string]knock{"mqtt": knockMQTT, "amqp": knockAMQP, "http": knockHTTP, "grpc": knockGRPC, "nats": knockNATS}

const doorstep = `{"temperature":21.5}`

func knockMQTT(_ context.Context, s *server, user, secret, device string) error {
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.addresses["mqtt"]).SetClientID("client-of-" + device).
		SetUsername(user).SetPassword(secret).SetAutoReconnect(false).SetConnectRetry(false))
	token := client.Connect()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		return errors.Join(errors.New("not let in"), token.Error())
	}
	defer client.Disconnect(0)
	for _, ask := range []func() mqtt.Token{
		func() mqtt.Token { return client.Publish(device+"/telemetry", 1, false, doorstep) },
		func() mqtt.Token {
			return client.Subscribe(device+"/commands/#", 1, func(mqtt.Client, mqtt.Message) {})
		},
	} {
		token := ask()
		for !token.WaitTimeout(100 * time.Millisecond) {
			if !client.IsConnectionOpen() { // paho forgets some tokens of a connection it has lost
				return errors.New("connection lost")
			}
		}
		if token.Error() != nil {
			return token.Error()
		}
	}
	return nil
}

func knockAMQP(ctx context.Context, s *server, user, secret, device string) error {
	sasl := amqp.SASLTypePlain(user, secret)
	if user == "" && secret == "" {
		sasl = amqp.SASLTypeAnonymous()
	}
	conn, err := amqp.Dial(ctx, "amqp://"+s.addresses["amqp"], &amqp.ConnOptions{ContainerID: "container-of-" + device, SASLType: sasl})
	if err != nil {
		return err
	}
	defer conn.Close()
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		return err
	}
	link, err := session.NewSender(ctx, device+"/telemetry", nil)
	if err != nil {
		return err
	}
	return link.Send(ctx, amqp.NewMessage([]byte(doorstep)), nil)
}

func knockHTTP(ctx context.Context, s *server, user, secret, device string) error {
	_, err := askHTTP(ctx, "http://"+s.addresses["http"]+"/v1/devices/"+device+"/telemetry?access_token="+secret, func(r *http.Request) {
		r.Method, r.Body = http.MethodPost, io.NopCloser(strings.NewReader(doorstep))
		if user != "" || secret != "" {
			r.SetBasicAuth(user, secret)
		}
	})
	return err
}

// askHTTP answers a body; one of an error status is the error.
func askHTTP(ctx context.Context, url string, change func(*http.Request)) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	change(request)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 300 {
		err = fmt.Errorf("%s %v: %s", response.Status, response.Header, body)
	}
	return string(body), err
}

// knockGRPC shows the secret as the operator's token.
func knockGRPC(_ context.Context, s *server, _, secret, device string) error {
	file := filepath.Join(s.t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		return err
	}
	out, err := s.tryClient("query", "--device", device, "--token-file", file)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// knockNATS shows the secret as the reader's password.
func knockNATS(_ context.Context, s *server, _, secret, _ string) error {
	conn, err := nats.Connect("nats://"+s.addresses["nats"], nats.UserInfo("reader", secret), nats.Timeout(patience))
	if err != nil {
		return err
	}
	conn.Close()
	conn, err = nats.Connect("nats://"+s.addresses["nats"], nats.Token(secret), nats.Timeout(patience))
	if err == nil {
		conn.Close()
		return nil
	}
	return nil // the token is for the reader alone
}

// throw writes bytes at a door and answers what comes back until it closes.
func throw(t *testing.T, addr string, raw []byte) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var answer bytes.Buffer
	if _, err := conn.Write(raw); err == nil {
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(&answer, conn)
	}
	return answer.String()
}
