package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// killRounds is how often the server is killed under load.
const killRounds = 20

// ledger remembers, outside the server, what was acknowledged.
type ledger struct {
	mu    sync.Mutex
	acked map[string]map[int]bool // device -> numbers
	next  map[string]int
}

// number gives a device's next reading its number, unique over all rounds.
func (l *ledger) number(device string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next[device]++
	return l.next[device]
}

func (l *ledger) enter(device string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acked[device] == nil {
		l.acked[device] = map[int]bool{}
	}
	l.acked[device][n] = true
}

func (l *ledger) count() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, numbers := range l.acked {
		n += len(numbers)
	}
	return n
}

// sender connects one device and answers how it sends; an error ends its round.
type sender func(ctx context.Context, s *server, device string) (send func(payload []byte) error, closeIt func(), err error)

// TestKilledServerKeepsWhatItAcknowledged kills the server under load on all
// three protocols, again and again: every acknowledged message must be in the
// store afterwards, once.
func TestKilledServerKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	book := &ledger{acked: map[string]map[int]bool{}, next: map[string]int{}}
	senders := map[string]sender{"mqtt": sendMQTT, "amqp": sendAMQP, "http": sendHTTP}
	for round := range killRounds {
		s := serve(t, data, "--open")
		load, cancel := context.WithCancel(t.Context())
		var devices sync.WaitGroup
		before := book.count()
		for protocol, connect := range senders {
			for i := range 3 {
				devices.Go(func() { loadUntilCut(load, s, book, fmt.Sprintf("%s%d", protocol, i), connect) })
			}
		}
		// Each round dies at another moment: after its own number of acks.
		enough := before + 50 + rand.IntN(400)
		eventually(t, "acknowledged messages", func() bool { return book.count() >= enough })
		s.kill()
		cancel()
		devices.Wait()
		t.Logf("round %d: killed after %d acks", round+1, book.count()-before)
	}
	s := serve(t, data, "--open")
	verifyLedger(t, s, book)
	s.stop()
}

// loadUntilCut sends readings, a few at a time, until the server is gone.
func loadUntilCut(ctx context.Context, s *server, book *ledger, device string, connect sender) {
	send, closeIt, err := connect(ctx, s, device)
	if err != nil {
		return
	}
	defer closeIt()
	var window sync.WaitGroup
	for range 4 {
		window.Go(func() {
			for ctx.Err() == nil {
				n := book.number(device)
				if send(fmt.Appendf(nil, `{"n":%d,"temperature":21.5}`, n)) != nil {
					return
				}
				book.enter(device, n)
			}
		})
	}
	window.Wait()
}

// verifyLedger holds the store to the ledger.
func verifyLedger(t *testing.T, s *server, book *ledger) {
	t.Helper()
	lost, doubled := 0, 0
	for device, numbers := range book.acked {
		copies := map[int]int{}
		for _, r := range s.query(device) {
			var reading struct{ N int }
			if err := json.Unmarshal(r.Payload, &reading); err != nil {
				t.Fatal(err)
			}
			copies[reading.N]++
		}
		for n := range numbers {
			if copies[n] == 0 {
				lost++
			}
		}
		for _, n := range copies {
			if n > 1 {
				doubled++
			}
		}
	}
	t.Logf("%d messages acknowledged, %d lost, %d stored twice", book.count(), lost, doubled)
	if lost > 0 || doubled > 0 {
		t.Errorf("of %d acknowledged messages %d are lost and %d are stored twice", book.count(), lost, doubled)
	}
}

func sendMQTT(_ context.Context, s *server, device string) (func([]byte) error, func(), error) {
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + s.addresses["mqtt"]).
		SetClientID(device).SetAutoReconnect(false).SetOrderMatters(false))
	if token := client.Connect(); token.WaitTimeout(patience) && token.Error() != nil {
		return nil, nil, token.Error()
	}
	send := func(payload []byte) error {
		token := client.Publish(device+"/telemetry/room", 1, false, payload)
		for !token.WaitTimeout(100 * time.Millisecond) {
			if !client.IsConnectionOpen() {
				return fmt.Errorf("connection lost")
			}
		}
		return token.Error()
	}
	return send, func() { client.Disconnect(0) }, nil
}

func sendAMQP(ctx context.Context, s *server, device string) (func([]byte) error, func(), error) {
	conn, err := amqp.Dial(ctx, "amqp://"+s.addresses["amqp"], &amqp.ConnOptions{ContainerID: device, SASLType: amqp.SASLTypeAnonymous()})
	if err != nil {
		return nil, nil, err
	}
	session, err := conn.NewSession(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	link, err := session.NewSender(ctx, device+"/telemetry/room", nil)
	if err != nil {
		return nil, nil, err
	}
	send := func(payload []byte) error { return link.Send(ctx, amqp.NewMessage(payload), nil) }
	return send, func() { conn.Close() }, nil
}

func sendHTTP(ctx context.Context, s *server, device string) (func([]byte) error, func(), error) {
	url := "http://" + s.addresses["http"] + "/v1/devices/" + device + "/telemetry/room"
	client := &http.Client{Transport: &http.Transport{}}
	send := func(payload []byte) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(payload))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		io.Copy(io.Discard, response.Body)
		if response.StatusCode >= 300 {
			return fmt.Errorf("%s", response.Status)
		}
		return nil
	}
	return send, client.CloseIdleConnections, nil
}
