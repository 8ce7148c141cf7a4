package https

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strconv"
	"unicode/utf8"

	"github.com/tributary-iot/tributary/device"
)

const (
	maxSettleBytes = 4 << 10
	maxReasonBytes = 256
)

var verbs = map[string]device.OutcomeKind{
	"accept":  device.Accepted,
	"release": device.Released,
	"reject":  device.Rejected,
}

// settle ends a lock by its token: 204 once that is durable, and again when the
// device repeats it; 409 when the token is stale.
func (s *Server) settle(c *call) (int, error) {
	token, reason, err := settlement(c)
	if err != nil {
		return 0, err
	}
	outcome := device.Outcome{Kind: verbs[c.route.verb], Reason: reason}
	if outcome.Kind == device.Released && reason == "" {
		outcome.Reason = "released"
	}
	c.bodyRead()
	err = errStale
	if sess := s.hub.find(c.seat()); sess != nil {
		err = sess.settle(c.r.Context(), s, c.route.command, token, outcome)
	}
	if err != nil && !s.hub.repeats.was(settled{c.device, c.route.command, token}, outcome.Kind) {
		return 0, err
	}
	return c.done()
}

// settlement reads lock_token and reason from the query or the body.
func settlement(c *call) (token, reason string, err error) {
	body, err := readBody(c.r, maxSettleBytes)
	if err != nil {
		return "", "", err
	}
	var given struct {
		LockToken string `json:"lock_token"`
		Reason    string `json:"reason"`
	}
	if body = bytes.TrimSpace(body); len(body) > 0 && body[0] == '{' {
		if json.Unmarshal(body, &given) != nil {
			return "", "", device.Errorf(device.Invalid, `the body must be an object like {"lock_token":"...","reason":"..."}`)
		}
	} else if form, err := url.ParseQuery(string(body)); err == nil {
		given.LockToken, given.Reason = form.Get("lock_token"), form.Get("reason")
	}
	query, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return "", "", device.Errorf(device.Invalid, "the query is malformed")
	}
	token, reason = query.Get("lock_token"), query.Get("reason")
	if token == "" {
		token = given.LockToken
	}
	if reason == "" {
		reason = given.Reason
	}
	switch {
	case token == "":
		return "", "", device.Errorf(device.Invalid, "lock_token is missing; it came with the command")
	case len(reason) > maxReasonBytes || !utf8.ValidString(reason):
		return "", "", device.Errorf(device.Invalid, "reason is not UTF-8 or longer than %d bytes", maxReasonBytes)
	}
	return token, reason, nil
}

// respond records the device's answer to a command, and settles the command if
// the answer came first.
func (s *Server) respond(c *call) (int, error) {
	body, err := readBody(c.r, s.cfg.MaxMessageBytes)
	if err != nil {
		return 0, err
	}
	status, err := statusOf(c.r.URL.RawQuery)
	if err != nil {
		return 0, err
	}
	declared := declaredType(c.r.Header)
	if len(declared) > maxContentTypeBytes || !utf8.ValidString(declared+c.route.command) {
		return 0, device.Errorf(device.Invalid, "the path or Content-Type is not UTF-8, or Content-Type is longer than %d bytes", maxContentTypeBytes)
	}
	r := device.Response{
		Device:      c.device,
		Via:         c.via,
		Command:     c.route.command,
		Status:      status,
		Payload:     body,
		ContentType: declared,
		Protocol:    device.HTTP,
	}
	c.bodyRead()
	err = s.confirm(c.r.Context(), func(done func(error)) error { s.gate.Respond(r, done); return nil })
	if err != nil {
		return 0, err
	}
	if sess := s.hub.find(c.seat()); sess != nil {
		sess.answered(r.Command)
	}
	return c.done()
}

// statusOf reads the status of an answer: 200 when the query names none.
func statusOf(rawQuery string) (int, error) {
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return 0, device.Errorf(device.Invalid, "the query is malformed")
	}
	text := query.Get("status")
	if text == "" {
		return 200, nil
	}
	status, err := strconv.Atoi(text)
	if err != nil || status < 100 || status > 599 {
		return 0, device.Errorf(device.Invalid, "status must be a number from 100 to 599, as in HTTP")
	}
	return status, nil
}
