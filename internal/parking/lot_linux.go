package parking

import (
	"fmt"
	"net"
	"sync"
	"syscall"
)

const supported = true

// Lot waits for any number of connections in one goroutine (epoll(7)).
type Lot struct {
	epoll  int
	ending [2]int // a pipe: what is written to one end wakes the goroutine
	ended  chan struct{}
	once   sync.Once

	mu     sync.Mutex
	places []place // by file descriptor
	closed bool
}

// place is where the connection of one descriptor waits. Its turn is in what
// was asked of the kernel, so that an event for a connection that left, whose
// descriptor is another's by now, wakes nobody.
type place struct {
	turn   uint32
	waiter Waiter // nil: free
}

// Open makes a Lot.
func Open() (*Lot, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("parking: %w", err)
	}
	l := &Lot{epoll: epoll, ended: make(chan struct{})}
	if err := syscall.Pipe2(l.ending[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		_ = syscall.Close(epoll)
		return nil, fmt.Errorf("parking: %w", err)
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(l.ending[0])}
	if err := syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, l.ending[0], &event); err != nil {
		l.release()
		return nil, fmt.Errorf("parking: %w", err)
	}
	go l.wait()
	return l, nil
}

// Park lets conn wait: w is told when there is something to read, or the
// connection has ended, also when that was so before. Nothing else may read
// from it meanwhile. The answer is false when conn cannot be parked, and w is
// not told then.
func (l *Lot) Park(conn net.Conn, w Waiter) bool {
	raw := rawConn(conn)
	if raw == nil {
		return false
	}
	var err error
	control := raw.Control(func(fd uintptr) { err = l.park(int(fd), w) })
	return control == nil && err == nil
}

func (l *Lot) park(fd int, w Waiter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	for fd >= len(l.places) {
		l.places = append(l.places, place{})
	}
	p := &l.places[fd]
	how := syscall.EPOLL_CTL_MOD
	if p.turn == 0 {
		how = syscall.EPOLL_CTL_ADD
	}
	p.turn++
	event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(fd), Pad: int32(p.turn)}
	err := syscall.EpollCtl(l.epoll, how, fd, &event)
	if err == syscall.ENOENT { // what was here before is closed
		err = syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, fd, &event)
	}
	if err == nil {
		p.waiter = w
	}
	return err
}

// Leave gives up a place before its waiter was told; it may be being told at
// this moment.
func (l *Lot) Leave(conn net.Conn) {
	if raw := rawConn(conn); raw != nil {
		_ = raw.Control(func(fd uintptr) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if int(fd) < len(l.places) {
				l.places[fd].waiter = nil
			}
		})
	}
}

// Close ends the Lot: whoever is still parked is not told, and nobody is parked
// any more.
func (l *Lot) Close() {
	l.once.Do(func() {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		_, _ = syscall.Write(l.ending[1], []byte{0})
		<-l.ended
		l.release()
	})
}

func (l *Lot) release() {
	for _, fd := range []int{l.epoll, l.ending[0], l.ending[1]} {
		_ = syscall.Close(fd)
	}
}

func (l *Lot) wait() {
	defer close(l.ended)
	events := make([]syscall.EpollEvent, 128)
	for {
		n, err := syscall.EpollWait(l.epoll, events, -1)
		if err != nil && err != syscall.EINTR {
			return // cannot be: the descriptor is ours, and open until we ended
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == l.ending[0] {
				return
			}
			if w := l.take(int(e.Fd), uint32(e.Pad)); w != nil {
				w.Wake()
			}
		}
	}
}

// take frees the place an event is for, and answers who waited there.
func (l *Lot) take(fd int, turn uint32) Waiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if fd >= len(l.places) || l.places[fd].turn != turn {
		return nil
	}
	w := l.places[fd].waiter
	l.places[fd].waiter = nil
	return w
}
