package doorway

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

// accepted is both ends of a connection that a door has accepted.
func accepted(t *testing.T, addr string) (ours *bare, theirs *net.TCPConn) {
	t.Helper()
	l, err := listen("test", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		conn.Close()
	})
	return conn.(*bare), client.(*net.TCPConn)
}

// TestAcceptedIsAConn: what is accepted does what any net.Conn does, from either side.
func TestAcceptedIsAConn(t *testing.T) {
	for name, turned := range map[string]bool{"ours first": false, "theirs first": true} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				var c1, c2 net.Conn
				ours, theirs := accepted(t, "127.0.0.1:0")
				if c1, c2 = ours, theirs; turned {
					c1, c2 = theirs, ours
				}
				return c1, c2, func() { ours.Close(); theirs.Close() }, nil
			})
		})
	}
}

// TestWhatIsThereNeedsNoPoller: a connection that never has to wait is never given to the
// runtime's; one that has to, goes on with it.
func TestWhatIsThereNeedsNoPoller(t *testing.T) {
	ours, theirs := accepted(t, "127.0.0.1:0")
	say := func(text string) {
		t.Helper()
		if _, err := theirs.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	hear := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(ours, got); err != nil || string(got) != want {
			t.Fatalf("heard %q, %v, want %q", got, err, want)
		}
	}
	say("hello")
	arrived(t, ours)
	_ = ours.SetDeadline(time.Now().Add(time.Hour))
	hear("hello")
	if _, err := ours.Write([]byte("welcome")); err != nil {
		t.Fatal(err)
	}
	if ours.file.Load() != nil {
		t.Error("the poller was asked for what was there")
	}
	if got, want := ours.LocalAddr().String()+" "+ours.RemoteAddr().String(), theirs.RemoteAddr().String()+" "+theirs.LocalAddr().String(); got != want {
		t.Errorf("it is between %s, want %s", got, want)
	}

	_ = ours.SetReadDeadline(time.Unix(1, 0))
	_, err := ours.Read(make([]byte, 1))
	if timeout, ok := err.(net.Error); !ok || !timeout.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after its deadline: %v", err)
	}
	if ours.file.Load() != nil {
		t.Error("the poller was asked after the deadline")
	}
	_ = ours.SetReadDeadline(time.Time{})
	heard := make(chan struct{})
	go func() { defer close(heard); hear("late") }()
	waiting(t, ours)
	say("late")
	<-heard
}

// arrived waits until there is something to read.
func arrived(t *testing.T, c *bare) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		n, err := 0, error(nil)
		control := (*bareFile)(c).Control(func(fd uintptr) {
			n, _, err = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		})
		if control == nil && err == nil && n > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing arrives: %v, %v", control, err)
		}
		time.Sleep(time.Millisecond) // between two looks
	}
}

// waiting waits until somebody reads who has to wait.
func waiting(t *testing.T, c *bare) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); c.file.Load() == nil; {
		if time.Now().After(deadline) {
			t.Fatal("nobody waits")
		}
		time.Sleep(time.Millisecond) // between two looks
	}
}

// TestLastWords: a peer hears what was said before the end, also when that is more than
// is taken at once, and its own end and its breaking off are told apart.
func TestLastWords(t *testing.T) {
	ours, theirs := accepted(t, "[::1]:0")
	words := bytes.Repeat([]byte("last words "), 1<<20)
	heard := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(theirs)
		heard <- all
	}()
	if n, err := ours.Write(words); n != len(words) || err != nil {
		t.Fatalf("wrote %d of %d: %v", n, len(words), err)
	}
	if err := ours.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; !bytes.Equal(got, words) {
		t.Errorf("the peer heard %d bytes, want %d", len(got), len(words))
	}
	theirs.Close()
	if _, err := ours.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the peer's end: %v", err)
	}
	ours, theirs = accepted(t, "[::]:0")
	if host, _, _ := net.SplitHostPort(ours.RemoteAddr().String()); net.ParseIP(host) == nil {
		t.Errorf("the peer's address is %q", host)
	}
	_ = theirs.SetLinger(0)
	theirs.Close()
	if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the peer broke off: %v", err)
	}
}

// TestAfterTheEnd nothing is done to a descriptor that may be another's by now.
func TestAfterTheEnd(t *testing.T) {
	for name, wait := range map[string]bool{"never waited": false, "waiting": true} {
		t.Run(name, func(t *testing.T) {
			ours, _ := accepted(t, "127.0.0.1:0")
			woken := make(chan error, 1)
			if wait {
				go func() {
					_, err := ours.Read(make([]byte, 1))
					woken <- err
				}()
				waiting(t, ours)
			} else {
				woken <- net.ErrClosed
			}
			if err := ours.Close(); err != nil {
				t.Fatal(err)
			}
			if err := <-woken; !errors.Is(err, net.ErrClosed) {
				t.Errorf("who waited is told %v", err)
			}
			raw, _ := ours.SyscallConn()
			_, read := ours.Read(make([]byte, 1))
			_, write := ours.Write([]byte("x"))
			for what, err := range map[string]error{
				"Read": read, "Write": write, "Close": ours.Close(), "CloseWrite": ours.CloseWrite(), "SetDeadline": ours.SetDeadline(time.Time{}),
				"Control":      raw.Control(func(uintptr) { t.Error("Control has a descriptor") }),
				"RawConn.Read": raw.Read(func(uintptr) bool { return true }), "RawConn.Write": raw.Write(func(uintptr) bool { return true }),
			} {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// TestRawConn: whoever waits for the descriptor itself is told.
func TestRawConn(t *testing.T) {
	ours, theirs := accepted(t, "127.0.0.1:0")
	raw, err := ours.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Write(func(fd uintptr) bool { _, err = syscall.Write(int(fd), []byte("x")); return true }); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.CopyN(theirs, theirs, 1) }()
	b := make([]byte, 1)
	var n int
	failed := raw.Read(func(fd uintptr) bool { n, err = syscall.Read(int(fd), b); return err != syscall.EAGAIN })
	if failed != nil || err != nil || n != 1 || b[0] != 'x' {
		t.Errorf("read %q: %v, %v", b[:max(n, 0)], err, failed)
	}
}
