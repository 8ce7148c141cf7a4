package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	idleConnecting = 64               // connections being made at the same time
	idleSettle     = 15 * time.Second // by then the server has collected what making them left behind
	idleSources    = 20_000           // connections from one source address: each takes a port
)

// idleRow is what connections cost that wait for commands and say nothing.
type idleRow struct {
	name       string
	made       float64 // connections a second, CONNACK and SUBACK included
	memory     float64 // KiB the server has resident for each
	goroutines float64 // for each; -1: not told
	cpu        time.Duration
}

// Idle opens o.Idle MQTT connections to each broker, each subscribed to its
// commands, and reports how fast they were made and what one costs the server.
// It needs Linux, where one process may look at another's memory.
func Idle(ctx context.Context, o Options) error {
	if runtime.GOOS != "linux" {
		return errors.New("the server's memory is read from /proc, which only Linux has")
	}
	var rows []idleRow
	for _, c := range idleCases {
		if !o.chosen(c.name) {
			continue
		}
		fmt.Fprintf(o.Out, "%s: %d idle connections …\n", c.name, o.Idle)
		row, err := measureIdle(ctx, c, o)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		rows = append(rows, row)
	}
	fmt.Fprintf(o.Out, "\n%d MQTT 3.1.1 connections, each waiting for its commands\n\n", o.Idle)
	const columns = "%-14s %12s %12s %12s %14s\n"
	fmt.Fprintf(o.Out, columns, "case", "connects/s", "KiB each", "goroutines", "CPU s/10,000")
	for _, r := range rows {
		goroutines := "-"
		if r.goroutines >= 0 {
			goroutines = fmt.Sprintf("%.2f", r.goroutines)
		}
		fmt.Fprintf(o.Out, columns, r.name, fmt.Sprintf("%.0f", r.made), fmt.Sprintf("%.1f", r.memory), goroutines,
			fmt.Sprintf("%.1f", r.cpu.Seconds()*10_000/float64(o.Idle)))
	}
	return nil
}

func measureIdle(ctx context.Context, c idleCase, o Options) (row idleRow, err error) {
	more := []string{"--max-connections", strconv.Itoa(o.Idle + 1000)}
	if c.tls {
		more = append(more, "--"+c.door, "127.0.0.1:0")
	}
	srv, err := startServer(ctx, c.name, o, more...)
	if err != nil {
		return row, err
	}
	defer srv.remove()
	d, err := c.dialer(srv)
	if err != nil {
		return row, err
	}
	before, goroutines, err := srv.holds(ctx)
	if err != nil {
		return row, err
	}
	start := time.Now()
	conns, err := idleConnections(ctx, d, o.Idle)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	if err != nil {
		return row, fmt.Errorf("after %d connections: %w", len(conns), err)
	}
	row = idleRow{name: c.name, made: float64(o.Idle) / time.Since(start).Seconds()}
	select {
	case <-time.After(idleSettle):
	case <-ctx.Done():
		return row, ctx.Err()
	}
	after, running, err := srv.holds(ctx)
	if err != nil {
		return row, err
	}
	row.memory, row.goroutines = float64(after-before)/float64(o.Idle), -1
	if running > 0 {
		row.goroutines = float64(running-goroutines) / float64(o.Idle)
	}
	if err := srv.stop(); err != nil {
		return row, err
	}
	row.cpu = srv.cmd.ProcessState.UserTime() + srv.cmd.ProcessState.SystemTime()
	return row, nil
}

// idleConnections makes n connections that wait; those made before an error are
// answered with it.
func idleConnections(ctx context.Context, d *idleDialer, n int) ([]net.Conn, error) {
	var mu sync.Mutex
	var conns []net.Conn
	making, ctx := errgroup.WithContext(ctx)
	making.SetLimit(idleConnecting)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		making.Go(func() error {
			c, err := idleConnection(ctx, d, i)
			if err == nil {
				mu.Lock()
				conns = append(conns, c)
				mu.Unlock()
			}
			return err
		})
	}
	return conns, making.Wait()
}

func idleConnection(ctx context.Context, d *idleDialer, i int) (net.Conn, error) {
	name := fmt.Sprintf("idle-%d", i)
	conn, err := d.dial(ctx, i)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(ackPatience))
	filter := name + "/commands/#"
	subscribe := append([]byte{0x82, byte(5 + len(filter)), 0, 1, 0, byte(len(filter))}, filter...)
	var answer [9]byte // CONNACK, SUBACK
	if _, err = conn.Write(append(append(connectPacket(name, 0), subscribe...), 1)); err == nil {
		_, err = io.ReadFull(conn, answer[:])
	}
	if err == nil && (answer[0] != 0x20 || answer[3] != 0 || answer[4] != 0x90 || answer[8] > 2) {
		err = fmt.Errorf("refused: % x", answer)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}

// holds is the memory of the server's process, in KiB, and its goroutines; 0 when it tells
// of none.
func (s *server) holds(ctx context.Context) (memory, goroutines int, err error) {
	if s.addresses["admin"] != "" {
		if goroutines, err = s.metric(ctx, "go_goroutines"); err != nil {
			return 0, 0, err
		}
	}
	memory, err = s.resident()
	return memory, goroutines, err
}

// resident is the memory the server's process holds, in KiB.
func (s *server) resident() (int, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw))
	at := slices.Index(fields, "VmRSS:")
	if at < 0 || at+1 >= len(fields) {
		return 0, errors.New("/proc tells no VmRSS of the server")
	}
	return strconv.Atoi(fields[at+1])
}
