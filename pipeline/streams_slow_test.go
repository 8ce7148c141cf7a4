package pipeline

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// TestStreamsAreMadeOnABusyDisk: the server answers that a stream is made long after
// the client's usual time-out, because it writes it first.
func TestStreamsAreMadeOnABusyDisk(t *testing.T) {
	t.Parallel()
	s, _ := externalServer(t, true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				c.Close()
				return
			}
			go func() { defer up.Close(); io.Copy(up, c) }()
			go func() { defer c.Close(); io.Copy(&laggard{Writer: c}, up) }()
		}
	}()
	openOn(t, Options{URL: "nats://" + l.Addr().String(), Durability: Strict})
}

// laggard holds back what says that a stream is made, the first time.
type laggard struct {
	io.Writer
	held bool
}

func (w *laggard) Write(p []byte) (int, error) {
	if !w.held && bytes.Contains(p, []byte("stream_create_response")) {
		w.held = true
		time.Sleep(7 * time.Second) // what the disk takes
	}
	return w.Writer.Write(p)
}
