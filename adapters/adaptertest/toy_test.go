package adaptertest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/device"
)

// toy is the smallest adapter that keeps the contract, one line a frame:
// LOGIN user secret, SEND to payload, NEXT, ACK id attempt; answered OK, NO or
// CMD id attempt payload. flaw makes it break one sentence of the contract.
type toy struct {
	gate     adapters.Gate
	flaw     string
	listener net.Listener
	mu       sync.Mutex
	conns    map[net.Conn]bool
	stopping bool
	work     sync.WaitGroup // connections
}

func openToy(flaw string) func(adapters.Gate) (adapters.Adapter, error) {
	return func(g adapters.Gate) (adapters.Adapter, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		return &toy{gate: g, flaw: flaw, listener: l, conns: map[net.Conn]bool{}}, err
	}
}

func (a *toy) Addrs() map[string]net.Addr { return map[string]net.Addr{"toy": a.listener.Addr()} }

func (a *toy) Serve() error {
	for {
		conn, err := a.listener.Accept()
		if errors.Is(err, net.ErrClosed) && a.flaw != "serve answers an error" {
			return nil
		} else if err != nil {
			return err
		}
		a.mu.Lock()
		if a.stopping {
			_ = conn.Close()
		} else {
			a.conns[conn] = true
			a.work.Add(1)
			go (&toyConn{toy: a, conn: conn}).serve()
		}
		a.mu.Unlock()
	}
}

func (a *toy) Shutdown(ctx context.Context) error {
	err := a.listener.Close()
	if errors.Is(err, net.ErrClosed) && a.flaw != "second stop fails" {
		err = nil
	}
	a.mu.Lock()
	a.stopping = true
	for conn := range a.conns {
		_ = conn.SetReadDeadline(time.Unix(1, 0)) // read no more; a write may finish
		if a.flaw == "cuts on stop" {
			_ = conn.Close()
		}
	}
	a.mu.Unlock()
	idle := make(chan struct{})
	go func() { a.work.Wait(); close(idle) }()
	select {
	case <-idle:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// toyConn is one connection; it handles one frame at a time, except that
// commands are written when they are offered.
type toyConn struct {
	*toy
	conn net.Conn
	me   device.Principal
	hold adapters.Attachment
}

func (c *toyConn) serve() {
	defer c.work.Done()
	defer func() {
		if c.hold != nil && c.flaw != "never detaches" {
			c.hold.Detach("gone")
		}
		c.mu.Lock()
		delete(c.conns, c.conn)
		c.mu.Unlock()
		_ = c.conn.Close()
	}()
	in := bufio.NewReader(c.conn)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		word, rest, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
		if word == "SEND" && c.flaw == "shares its buffer" {
			_, payload, _ := strings.Cut(rest, " ")
			start := len(line) - 1 - len(payload)
			err = c.submit(rest, line[start:len(line)-1])
		} else {
			err = c.frame(word, rest)
		}
		if err == nil && word != "NEXT" {
			c.say("OK")
		} else if err != nil {
			c.say("NO " + device.PublicMessage(err))
		}
	}
}

func (c *toyConn) say(line string) { _, _ = fmt.Fprintln(c.conn, line) }

func (c *toyConn) frame(word, rest string) (err error) {
	first, second, _ := strings.Cut(rest, " ")
	switch word {
	case "LOGIN":
		c.me, err = c.gate.Authenticate(context.Background(), device.Credential{User: first, Secret: second})
		if err != nil && c.flaw == "lets everybody in" {
			c.me, err = device.Principal{ID: device.ID{Tenant: device.DefaultTenant, Device: first}}, nil
		} else if err != nil && c.flaw == "leaves a trail of strangers" {
			c.gate.Refused(adapters.Refusal{Err: err})
		}
		return err
	case "SEND":
		return c.submit(rest, []byte(second))
	case "NEXT":
		return c.next()
	case "ACK":
		var attempt int
		if _, err := fmt.Sscan(second, &attempt); err != nil {
			return device.Errorf(device.Invalid, "attempt %q is no number", second)
		}
		outcome := make(chan error, 1)
		c.hold.Settle(first, attempt, device.Outcome{Kind: device.Accepted}, func(err error) { outcome <- err })
		return <-outcome
	}
	return device.Errorf(device.Invalid, "no frame is called %q", word)
}

func (c *toyConn) submit(rest string, payload []byte) error {
	to, _, _ := strings.Cut(rest, " ")
	to = strings.TrimPrefix(to, "-")
	id, via, err := c.me.SpeakFor(to)
	if err != nil {
		if c.flaw == "speaks for anybody" {
			id = device.ID{Tenant: c.me.ID.Tenant, Device: to}
		} else {
			if c.flaw != "leaves no trail" {
				c.gate.Refused(adapters.Refusal{Device: c.me.ID, Protocol: "toy", Address: to, Raw: payload, Err: err})
			}
			return err
		}
	}
	if strings.Contains(string(payload), `"device":"bob"`) && c.flaw == "believes the payload" {
		id.Device = "bob"
	}
	m := &device.Message{Tenant: id.Tenant, Device: id.Device, Via: via, Protocol: "toy", ReceivedAt: time.Now(), Payload: payload}
	if strings.Contains(string(payload), "temperature") {
		m.Measurements = []device.Measurement{{Name: "temperature", Value: device.Double(21.5)}}
	}
	outcome := make(chan error, 1)
	if err := c.gate.Submit(m, func(err error) { outcome <- err }); err != nil || c.flaw == "acknowledges first" {
		return err
	}
	err = <-outcome
	if c.flaw == "swallows refusals" {
		return nil
	}
	return err
}

func (c *toyConn) next() (err error) {
	if c.hold == nil {
		c.hold, err = c.gate.Attach(context.Background(), device.Session{Device: c.me.ID, Protocol: "toy"}, c.offer, func() {})
	}
	if err == nil {
		c.hold.Request(1)
	}
	return err
}

func (c *toyConn) offer(d device.Delivery) {
	attempt := d.Attempt
	if c.flaw == "hides repeats" {
		attempt = 1
	}
	c.say(fmt.Sprintf("CMD %s %d %s", d.Command.ID, attempt, d.Command.Payload))
	if c.flaw == "settles unasked" {
		c.hold.Settle(d.Command.ID, d.Attempt, device.Outcome{Kind: device.Accepted}, nil)
	}
}

// toyClient is the other end.
type toyClient struct {
	conn net.Conn
	in   *bufio.Reader
}

func dialToy(ctx context.Context, a adapters.Adapter, login adaptertest.Login) (adaptertest.Client, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.Addrs()["toy"].String())
	if err != nil {
		return nil, err
	}
	c := &toyClient{conn, bufio.NewReader(conn)}
	_, err = c.call(ctx, "LOGIN "+login.User+" "+login.Secret)
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *toyClient) call(ctx context.Context, frame string) (string, error) {
	if limit, ok := ctx.Deadline(); ok {
		_ = c.conn.SetDeadline(limit)
	}
	if _, err := fmt.Fprintln(c.conn, frame); err != nil {
		return "", err
	}
	line, err := c.in.ReadString('\n')
	if err == nil && strings.HasPrefix(line, "NO") {
		err = errors.New(line)
	}
	return strings.TrimSpace(line), err
}

func (c *toyClient) Send(ctx context.Context, to string, payload []byte) error {
	_, err := c.call(ctx, fmt.Sprintf("SEND -%s %s", to, payload))
	return err
}

func (c *toyClient) Receive(ctx context.Context) (adaptertest.Received, error) {
	line, err := c.call(ctx, "NEXT")
	if err != nil {
		return adaptertest.Received{}, err
	}
	var id, payload string
	var attempt int
	if _, err := fmt.Sscanf(line, "CMD %s %d %s", &id, &attempt, &payload); err != nil {
		return adaptertest.Received{}, fmt.Errorf("%q: %w", line, err)
	}
	return adaptertest.Received{ID: id, Payload: []byte(payload), Repeat: attempt > 1, Accept: func(ctx context.Context) error {
		_, err := c.call(ctx, fmt.Sprintf("ACK %s %d", id, attempt))
		return err
	}}, nil
}

func (c *toyClient) Close() { _ = c.conn.Close() }
