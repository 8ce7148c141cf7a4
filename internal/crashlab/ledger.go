package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ledger is what the devices know: what they sent, and what was acknowledged.
// It is written down outside the victim's disk before it counts, a line each:
// microseconds, device, counter, how often it was sent, "sent" or "acked".
type ledger struct {
	file  *os.File
	acked atomic.Int64
	round atomic.Int64 // in which acknowledgements come now

	mu     sync.Mutex
	failed error
}

// message is one reading of a device. Its counter is its place in the device's
// list, from 1 on.
type message struct {
	n     int
	sends int
	acked bool
	round int // in which it was acknowledged
}

// keyed says whether the device gives a message a key, and may so repeat it.
// Every eighth has none.
func (m *message) keyed() bool { return m.n%8 != 0 }

func (m *message) key(device string) string {
	if !m.keyed() {
		return ""
	}
	return fmt.Sprintf("%s-%d", device, m.n)
}

// payload is a function of the counter alone, so that what comes back can be
// compared. Most are of 60 to 300 bytes, one in 97 fills several blocks of a disk.
func payload(n int) []byte {
	pad := 40 + n*31%240
	if n%97 == 0 {
		pad = 20_000
	}
	return fmt.Appendf(nil, `{"n":%d,"t":%d.5,"pad":"%s"}`, n, n%40, strings.Repeat("x", pad))
}

func openLedger(path string) (*ledger, error) {
	f, err := os.Create(path)
	return &ledger{file: f}, err
}

// enter writes a line. What cannot be written down ends the run.
func (l *ledger) enter(device string, m *message, what string) {
	_, err := fmt.Fprintf(l.file, "%d %s %d %d %s\n", time.Now().UnixMicro(), device, m.n, m.sends, what)
	if err != nil {
		l.mu.Lock()
		l.failed = err
		l.mu.Unlock()
	}
}

// ack enters an acknowledgement.
func (l *ledger) ack(device string, m *message) {
	l.enter(device, m, "acked")
	m.acked, m.round = true, int(l.round.Load())
	l.acked.Add(1)
}

// err is why the ledger cannot be trusted.
func (l *ledger) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return fmt.Errorf("the ledger: %w", l.failed)
	}
	return nil
}

func (l *ledger) close() error { return l.file.Close() }
