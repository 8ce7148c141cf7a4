package https

import (
	"encoding/json"
	"net/http"
	"time"
)

// stream answers a poll as server-sent events (WHATWG HTML, section 9.2), until
// the client leaves, its wait ends or the server stops.
func (s *Server) stream(c *call, o pollOptions, sess *session, p *poll) (int, error) {
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // asks reverse proxies to pass events on at once
	if err := s.send(c, http.StatusOK, []byte(": ready\n\n")); err != nil {
		return 0, errGone
	}
	heartbeat := time.NewTicker(s.cfg.Heartbeat)
	defer heartbeat.Stop()
	var end <-chan time.Time // nil: never
	if o.wait > 0 {
		timer := time.NewTimer(o.wait)
		defer timer.Stop()
		end = timer.C
	}
	for {
		var err error
		select {
		case <-p.wake:
			err = s.sendEvents(c, o, sess, p)
		case <-heartbeat.C:
			err = s.send(c, 0, []byte(": keep-alive\n\n"))
		case <-c.r.Context().Done():
			return 0, errGone
		case <-end:
			return s.lastWords(c)
		case <-sess.over:
			return s.lastWords(c)
		case <-s.draining:
			return s.lastWords(c)
		}
		if err != nil {
			return 0, errGone
		}
	}
}

// sendEvents writes what the poll was handed, each command one event.
func (s *Server) sendEvents(c *call, o pollOptions, sess *session, p *poll) error {
	locks := sess.take(p, o.lock)
	for i, l := range locks {
		data, err := json.Marshal(commandOf(l))
		if err == nil {
			err = s.send(c, 0, []byte("id: "+l.Command.ID+"\nevent: command\ndata: "+string(data)+"\n\n"))
		}
		if err != nil {
			for _, l := range locks[i:] {
				sess.abandon(l)
			}
			return err
		}
		s.written(sess, o, locks[i:i+1])
	}
	return nil
}

// lastWords ends a stream; the write deadline they set is also that of the
// chunk net/http ends the body with.
func (s *Server) lastWords(c *call) (int, error) {
	if s.send(c, 0, []byte(": end\n\n")) != nil {
		return 0, errGone
	}
	return http.StatusOK, nil
}
