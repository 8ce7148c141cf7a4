package parking_test

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/internal/parking"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

type bell chan struct{}

func (b bell) Wake() { b <- struct{}{} }

// pair is the two ends of a connection on loopback.
func pair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if theirs, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if ours, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

func open(t *testing.T) *parking.Lot {
	t.Helper()
	lot, err := parking.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lot.Close)
	return lot
}

func park(t *testing.T, lot *parking.Lot, conn net.Conn, w parking.Waiter) {
	t.Helper()
	if !lot.Park(conn, w) {
		t.Fatal("a TCP connection cannot be parked")
	}
}

func (b bell) await(t *testing.T, what string) {
	t.Helper()
	select {
	case <-b:
	case <-time.After(patience):
		t.Fatalf("nobody was told of %s", what)
	}
}

// silent fails when somebody was told; ring makes sure that whoever is to be
// told has been.
func (b bell) silent(t *testing.T, what string) {
	t.Helper()
	select {
	case <-b:
		t.Errorf("told of %s", what)
	default:
	}
}

func TestWokenByBytesEveryTime(t *testing.T) {
	lot, told := open(t), make(bell, 8)
	ours, theirs := pair(t)
	for range 100 {
		park(t, lot, ours, told)
		told.silent(t, "nothing")
		if _, err := theirs.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		told.await(t, "a byte")
		if _, err := io.ReadFull(ours, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWokenByWhatWasThereBefore(t *testing.T) {
	lot, told := open(t), make(bell, 8)
	ours, theirs := pair(t)
	if _, err := theirs.Write([]byte("xy")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(ours, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	park(t, lot, ours, told) // the second byte is unread
	told.await(t, "a byte that was there before")
}

func TestWokenByTheEnd(t *testing.T) {
	for name, end := range map[string]func(c *net.TCPConn) error{
		"closed": (*net.TCPConn).Close, "half closed": (*net.TCPConn).CloseWrite,
		"reset": func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			lot, told := open(t), make(bell, 8)
			ours, theirs := pair(t)
			park(t, lot, ours, told)
			if err := end(theirs.(*net.TCPConn)); err != nil {
				t.Fatal(err)
			}
			told.await(t, "the end")
		})
	}
}

// TestLeft: who left is not told, nor is who has its descriptor after it.
func TestLeft(t *testing.T) {
	lot, gone, here := open(t), make(bell, 8), make(bell, 8)
	for range 50 {
		ours, theirs := pair(t)
		park(t, lot, ours, gone)
		lot.Leave(ours)
		ours.Close()
		theirs.Close()
		ours, theirs = pair(t) // with the same descriptors, most likely
		park(t, lot, ours, here)
		if _, err := theirs.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		here.await(t, "a byte")
		ours.Close()
		theirs.Close()
	}
	gone.silent(t, "a connection that had left")
	here.silent(t, "nothing")
}

// TestParkedIsWritable: what is written while a connection is parked arrives.
func TestParkedIsWritable(t *testing.T) {
	lot, told := open(t), make(bell, 8)
	ours, theirs := pair(t)
	park(t, lot, ours, told)
	if _, err := ours.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(theirs, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	told.silent(t, "our own bytes")
}

func TestOnlyPlainConnectionsPark(t *testing.T) {
	lot, told := open(t), make(bell, 8)
	ours, _ := pair(t)
	secure := tls.Server(ours, &tls.Config{MinVersion: tls.VersionTLS12})
	if parking.Possible(secure) || lot.Park(secure, told) {
		t.Error("a TLS connection is parked, which may hold what was read already")
	}
	if !parking.Possible(ours) {
		t.Error("a TCP connection cannot be parked")
	}
	if lot.Park(ours, told); ours.Close() != nil || lot.Park(ours, told) {
		t.Error("a closed connection is parked")
	}
	lot.Close()
	if another, _ := pair(t); lot.Park(another, told) {
		t.Error("a closed lot takes a connection")
	}
}
