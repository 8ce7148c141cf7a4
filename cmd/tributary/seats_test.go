package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// seat is a device at one of the doors, with a client somebody else wrote.
type seat interface {
	// take waits for the next command.
	take(ctx context.Context) (*parcel, error)
	respond(ctx context.Context, id string, status int) error
	// cut ends the connection without a word.
	cut()
}

// parcel is a command as it came; settle is one of accept, reject and release, as
// far as the protocol has words for them.
type parcel struct {
	id     string
	repeat bool // shown as one
	settle func(ctx context.Context, how string) error
}

var errNoWord = errors.New("the protocol has no word for it")

// seats are the doors of the table, by name. lock is how long a command is an
// HTTP device's; the others hold it as long as their connection.
var seats = map[string]func(ctx context.Context, s *server, device string, lock time.Duration) (seat, error){
	"mqtt3": sitMQTT3, "mqtt5": sitMQTT5, "amqp": sitAMQP, "https": sitHTTP,
}

// next takes what a client's callback put into a channel.
func next[T any](ctx context.Context, in <-chan T, gone <-chan struct{}) (v T, err error) {
	select {
	case v = <-in:
		return v, nil
	case <-gone:
		return v, errors.New("the connection has ended")
	case <-ctx.Done():
		return v, ctx.Err()
	}
}

type mqtt3Seat struct {
	device string
	client mqtt.Client
	conn   net.Conn
	in     chan mqtt.Message
	gone   chan struct{}
}

func sitMQTT3(ctx context.Context, s *server, device string, _ time.Duration) (seat, error) {
	m := &mqtt3Seat{device: device, in: make(chan mqtt.Message, 1000), gone: make(chan struct{})}
	options := mqtt.NewClientOptions().AddBroker("tcp://" + s.addresses["mqtt"]).SetClientID(device).SetProtocolVersion(4).
		SetAutoReconnect(false).SetAutoAckDisabled(true).SetOrderMatters(false).
		SetConnectionLostHandler(func(mqtt.Client, error) { close(m.gone) }).
		SetCustomOpenConnectionFn(func(u *url.URL, _ mqtt.ClientOptions) (net.Conn, error) {
			var err error
			m.conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
			return m.conn, err
		})
	m.client = mqtt.NewClient(options)
	if err := finish(ctx, m.client.Connect()); err != nil {
		return nil, err
	}
	return m, finish(ctx, m.client.Subscribe("commands/#", 1, func(_ mqtt.Client, p mqtt.Message) { m.in <- p }))
}

func finish(ctx context.Context, t mqtt.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *mqtt3Seat) take(ctx context.Context) (*parcel, error) {
	p, err := next(ctx, m.in, m.gone)
	if err != nil {
		return nil, err
	}
	return &parcel{id: strings.Split(p.Topic(), "/")[1], repeat: p.Duplicate(), settle: func(_ context.Context, how string) error {
		if how != "accept" {
			return errNoWord
		}
		p.Ack()
		return nil
	}}, nil
}

func (m *mqtt3Seat) respond(ctx context.Context, id string, status int) error {
	return finish(ctx, m.client.Publish(fmt.Sprintf("responses/%s/%d", id, status), 1, false, "done"))
}

func (m *mqtt3Seat) cut() { m.conn.Close() }

type mqtt5Seat struct {
	client *paho.Client
	conn   net.Conn
	in     chan *paho.Publish
}

func sitMQTT5(ctx context.Context, s *server, device string, _ time.Duration) (seat, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.addresses["mqtt"])
	if err != nil {
		return nil, err
	}
	m := &mqtt5Seat{conn: packets.NewThreadSafeConn(conn), in: make(chan *paho.Publish, 1000)}
	m.client = paho.NewClient(paho.ClientConfig{Conn: m.conn, PacketTimeout: patience, EnableManualAcknowledgment: true, SendAcksInterval: 5 * time.Millisecond,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			m.in <- p.Packet
			return true, nil
		}}})
	if _, err = m.client.Connect(ctx, &paho.Connect{ClientID: device, CleanStart: true, KeepAlive: 60}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	_, err = m.client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "commands", QoS: 1}}})
	return m, err
}

func (m *mqtt5Seat) take(ctx context.Context) (*parcel, error) {
	p, err := next(ctx, m.in, m.client.Done())
	if err != nil {
		return nil, err
	}
	return &parcel{id: string(p.Properties.CorrelationData), repeat: p.Duplicate(), settle: func(_ context.Context, how string) error {
		switch how {
		case "accept":
			return m.client.Ack(p)
		case "reject": // which this client's Ack cannot say
			_, err := (&packets.Puback{PacketID: p.PacketID, ReasonCode: 0x83, Properties: &packets.Properties{}}).WriteTo(m.conn)
			return err
		}
		return errNoWord
	}}, nil
}

func (m *mqtt5Seat) respond(ctx context.Context, id string, status int) error {
	_, err := m.client.Publish(ctx, &paho.Publish{Topic: "responses/" + id, QoS: 1, Payload: []byte("done"), Properties: &paho.PublishProperties{
		CorrelationData: []byte(id), User: paho.UserProperties{{Key: "status", Value: fmt.Sprint(status)}}}})
	return err
}

func (m *mqtt5Seat) cut() { m.conn.Close() }

type amqpSeat struct {
	conn     *amqp.Conn
	raw      net.Conn
	receiver *amqp.Receiver
	sender   *amqp.Sender
}

func sitAMQP(ctx context.Context, s *server, device string, _ time.Duration) (seat, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.addresses["amqp"])
	if err != nil {
		return nil, err
	}
	a := &amqpSeat{raw: raw}
	a.conn, err = amqp.NewConn(ctx, raw, &amqp.ConnOptions{ContainerID: device, SASLType: amqp.SASLTypeAnonymous()})
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	session, err := a.conn.NewSession(ctx, nil)
	if err == nil {
		a.receiver, err = session.NewReceiver(ctx, device+"/commands", &amqp.ReceiverOptions{Credit: 100})
	}
	if err == nil {
		a.sender, err = session.NewSender(ctx, device+"/responses", nil)
	}
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return a, nil
}

func (a *amqpSeat) take(ctx context.Context) (*parcel, error) {
	m, err := a.receiver.Receive(ctx, nil)
	if err != nil {
		return nil, err
	}
	id, _ := m.Properties.MessageID.(string)
	return &parcel{id: id, repeat: m.Header != nil && m.Header.DeliveryCount > 0, settle: func(ctx context.Context, how string) error {
		switch how {
		case "accept":
			return a.receiver.AcceptMessage(ctx, m)
		case "reject":
			return a.receiver.RejectMessage(ctx, m, nil)
		}
		return a.receiver.ReleaseMessage(ctx, m)
	}}, nil
}

func (a *amqpSeat) respond(ctx context.Context, id string, status int) error {
	return a.sender.Send(ctx, &amqp.Message{Data: [][]byte{[]byte("done")}, Properties: &amqp.MessageProperties{CorrelationID: id},
		ApplicationProperties: map[string]any{"status": int32(status)}}, nil)
}

func (a *amqpSeat) cut() { a.raw.Close() }

type httpSeat struct {
	client *http.Client
	base   string
	lock   time.Duration
}

func sitHTTP(_ context.Context, s *server, device string, lock time.Duration) (seat, error) {
	return &httpSeat{&http.Client{Transport: &http.Transport{}}, "http://" + s.addresses["http"] + "/v1/devices/" + device + "/commands", lock}, nil
}

// take polls again and again, as such a device does.
func (h *httpSeat) take(ctx context.Context) (*parcel, error) {
	for {
		var got struct {
			ID        string
			LockToken string `json:"lock_token"`
			Attempt   int
		}
		code, err := h.do(ctx, http.MethodGet, fmt.Sprintf("?wait=10s&lock=%v", h.lock), nil, &got)
		if err != nil {
			return nil, err
		}
		if code == http.StatusNoContent {
			continue
		}
		return &parcel{id: got.ID, repeat: got.Attempt > 1, settle: func(ctx context.Context, how string) error {
			body, _ := json.Marshal(map[string]string{"lock_token": got.LockToken})
			_, err := h.do(ctx, http.MethodPost, "/"+got.ID+":"+how, body, nil)
			return err
		}}, nil
	}
}

func (h *httpSeat) respond(ctx context.Context, id string, status int) error {
	_, err := h.do(ctx, http.MethodPost, fmt.Sprintf("/%s/response?status=%d", id, status), []byte(`"done"`), nil)
	return err
}

func (h *httpSeat) do(ctx context.Context, method, path string, body []byte, into any) (int, error) {
	request, err := http.NewRequestWithContext(ctx, method, h.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := h.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return 0, err
	case response.StatusCode >= 300:
		return 0, fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	case response.StatusCode == http.StatusOK && into != nil:
		err = json.Unmarshal(text, into)
	}
	return response.StatusCode, err
}

func (h *httpSeat) cut() { h.client.CloseIdleConnections() }
