package https

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tributary-iot/tributary/device"
)

const (
	// shortestWait is the moment a mailbox is given to be read: attaching says
	// nothing about what is in it.
	shortestWait = 300 * time.Millisecond
	// gather is how long a poll for several waits for the next once it has one.
	gather       = 30 * time.Millisecond
	shortestLock = time.Second
)

// pollOptions is the query of a poll, within bounds.
type pollOptions struct {
	wait   time.Duration
	lock   time.Duration // 0 with ack=auto
	max    int
	array  bool // max was given
	stream bool
}

func (s *Server) pollOptions(r *http.Request) (pollOptions, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return pollOptions{}, device.Errorf(device.Invalid, "the query is malformed")
	}
	o := pollOptions{wait: shortestWait, lock: s.cfg.DefaultLock, max: 1}
	if o.stream = acceptsEvents(r.Header.Get("Accept")); o.stream {
		o.wait, o.max = 0, streamWindow // 0: until the client leaves
	}
	if q.Has("wait") {
		if o.wait, err = duration(q, "wait", shortestWait, s.cfg.MaxWait); err != nil {
			return o, err
		}
	}
	if q.Has("lock") {
		if o.lock, err = duration(q, "lock", shortestLock, s.cfg.MaxLock); err != nil {
			return o, err
		}
	}
	if text := q.Get("max"); text != "" {
		o.array = true
		if o.max, err = strconv.Atoi(text); err != nil || o.max < 1 {
			return o, device.Errorf(device.Invalid, "max must be a number from 1 to %d", maxCommands)
		}
		o.max = min(o.max, maxCommands)
	}
	switch q.Get("ack") {
	case "", "lock":
	case "auto":
		o.lock = 0
	default:
		return o, device.Errorf(device.Invalid, "ack must be auto, or left out")
	}
	return o, nil
}

// duration reads "30s" or "30"; outside the bounds it is the nearer bound.
func duration(q url.Values, name string, least, most time.Duration) (time.Duration, error) {
	text := q.Get(name)
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil || d < 0 {
		return 0, device.Errorf(device.Invalid, "%s must be a duration such as 30s", name)
	}
	return min(max(d, least), most), nil
}

func acceptsEvents(accept string) bool {
	return strings.Contains(strings.ToLower(accept), "text/event-stream")
}

// getCommands is the poll.
func (s *Server) getCommands(c *call) (int, error) {
	o, err := s.pollOptions(c.r)
	if err == nil {
		// Only once the body is read does net/http notice that a client leaves.
		_, err = readBody(c.r, maxSettleBytes)
	}
	if err != nil {
		return 0, err
	}
	c.unhurried(o.wait + s.cfg.AckTimeout + s.cfg.WriteTimeout)
	s.metrics.polls.Inc()
	defer s.metrics.polls.Dec()
	ctx := c.r.Context()
	p := newPoll(o.max)
	sess, err := s.hub.join(c, p)
	if err != nil {
		return 0, err
	}
	defer sess.leave(p)
	if o.stream {
		return s.stream(c, o, sess, p)
	}
	locks := s.collect(ctx, o, sess, p)
	switch {
	case len(locks) == 0 && ctx.Err() != nil:
		return 0, errGone
	case len(locks) == 0:
		if err := sess.expulsion(); err != nil {
			return 0, err
		}
		return c.done()
	}
	if ctx.Err() != nil || s.writeCommands(c, o, locks) != nil {
		for _, l := range locks {
			sess.abandon(l)
		}
		return 0, errGone
	}
	s.written(sess, o, locks)
	return http.StatusOK, nil
}

// collect waits for commands: the first for as long as the poll says, more of
// them for a moment.
func (s *Server) collect(ctx context.Context, o pollOptions, sess *session, p *poll) []*lock {
	timer := time.NewTimer(o.wait)
	defer timer.Stop()
	defer sess.finish(p)
	var locks []*lock
	for len(locks) < o.max {
		select {
		case <-p.wake:
			if got := sess.take(p, o.lock); len(got) > 0 {
				locks = append(locks, got...)
				timer.Reset(gather)
			}
		case <-timer.C:
			return append(locks, sess.take(p, o.lock)...)
		case <-ctx.Done():
			return locks
		case <-s.draining:
			return locks
		case <-sess.over:
			return locks
		}
	}
	return locks
}

// command is one offered command as the device sees it.
type command struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Payload     []byte     `json:"payload"`
	ContentType string     `json:"content_type"`
	Deadline    time.Time  `json:"deadline"`
	Attempt     int        `json:"attempt"`
	LockToken   string     `json:"lock_token,omitempty"`
	LockUntil   *time.Time `json:"lock_until,omitempty"`
}

func commandOf(l *lock) command {
	c := command{
		ID:          l.Command.ID,
		Name:        l.Command.Name,
		Payload:     l.Command.Payload,
		ContentType: l.Command.ContentType,
		Deadline:    l.Command.Deadline.UTC(),
		Attempt:     l.Attempt,
		LockToken:   l.token,
	}
	if c.Payload == nil {
		c.Payload = []byte{} // "", not null
	}
	if l.token != "" {
		until := l.until.UTC()
		c.LockUntil = &until
	}
	return c
}

// writeCommands answers a poll; nil means that the kernel has taken it all.
func (s *Server) writeCommands(c *call, o pollOptions, locks []*lock) error {
	shown := make([]command, len(locks))
	for i, l := range locks {
		shown[i] = commandOf(l)
	}
	var body []byte
	var err error
	if o.array {
		body, err = json.Marshal(shown)
	} else {
		body, err = json.Marshal(shown[0])
	}
	if err != nil {
		return err
	}
	body = append(body, '\n')
	h := c.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	return s.send(c, http.StatusOK, body)
}

// send writes and flushes within the write timeout; status 0 goes on with an
// answer that has begun.
func (s *Server) send(c *call, status int, body []byte) error {
	rc := http.NewResponseController(c.w)
	_ = rc.SetWriteDeadline(time.Now().Add(s.cfg.WriteTimeout))
	c.written = true
	if status != 0 {
		c.w.WriteHeader(status)
	}
	if _, err := c.w.Write(body); err != nil {
		return err
	}
	return rc.Flush()
}

// written settles what needs no receipt.
func (s *Server) written(sess *session, o pollOptions, locks []*lock) {
	if o.lock > 0 {
		return
	}
	for _, l := range locks {
		l.settle(device.Unconfirmed, "")
		sess.free(l)
	}
}
