package https

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strconv"

	"github.com/tributary-iot/tributary/device"
)

// problemType is where the types of our problems begin; the code follows. It
// names, it does not lead anywhere.
const problemType = "urn:tributary:problem:"

// answer is how one code of package device is said in HTTP.
type answer struct {
	status     int
	title      string
	retryAfter int // seconds; 0 sends no Retry-After
}

// answers is the one table from codes to HTTP.
var answers = map[device.Code]answer{
	device.Internal:        {http.StatusInternalServerError, "Internal error", 0},
	device.Invalid:         {http.StatusBadRequest, "Invalid request", 0},
	device.Undecodable:     {http.StatusBadRequest, "Payload does not match its content type", 0},
	device.TooLarge:        {http.StatusRequestEntityTooLarge, "Too large", 0},
	device.Unauthenticated: {http.StatusUnauthorized, "Not authenticated", 0},
	device.Forbidden:       {http.StatusForbidden, "Not allowed", 0},
	device.NotFound:        {http.StatusNotFound, "Not found", 0},
	device.Conflict:        {http.StatusConflict, "Someone else acted first", 0},
	device.Precondition:    {http.StatusConflict, "Not possible in this state", 0},
	device.Busy:            {http.StatusServiceUnavailable, "Busy", 1},
	device.Unavailable:     {http.StatusServiceUnavailable, "Unavailable", 5},
}

// httpError is a refusal that only HTTP knows.
type httpError struct {
	status int
	kind   string // ends the problem type
	detail string
}

func (e *httpError) Error() string { return e.detail }

// statusGone is counted, never sent: the peer left before its answer.
const statusGone = 499

var (
	errGone = &httpError{statusGone, "gone", "the client left before its answer"}

	errNoRoute = &httpError{http.StatusNotFound, "not-found",
		"there is nothing at this path; devices use /v1/devices/{device}/telemetry and /v1/devices/{device}/commands"}
	errBodyTimeout = &httpError{http.StatusRequestTimeout, "timeout", "the body did not arrive in time"}
	errBodyCut     = &httpError{http.StatusBadRequest, "invalid", "the body ends before its announced end or is malformed"}
	errEncoded     = &httpError{http.StatusUnsupportedMediaType, "unsupported-encoding", "send the body without Content-Encoding"}
)

func wrongMethod(k routeKind) error {
	return &httpError{http.StatusMethodNotAllowed, "method-not-allowed", "only " + k.method() + " is allowed here"}
}

// bodyError says why a body could not be read.
func bodyError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errBodyTimeout
	case ctx.Err() != nil:
		return errGone
	}
	return errBodyCut
}

// problem is RFC 9457.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// refuse answers err to the peer and gives the status for the metrics. What
// carries no code is logged in full and shown as an internal error.
func (s *Server) refuse(c *call, err error) int {
	var p problem
	var own *httpError
	header := c.w.Header()
	if errors.As(err, &own) {
		if own.status == statusGone {
			return statusGone
		}
		p = problem{problemType + own.kind, http.StatusText(own.status), own.status, own.detail}
		switch own.status {
		case http.StatusMethodNotAllowed:
			header.Set("Allow", c.route.kind.method())
		case http.StatusUpgradeRequired:
			header.Set("Upgrade", "websocket")
			header.Set("Connection", "Upgrade")
		}
	} else {
		code := device.CodeOf(err)
		a := answers[code]
		p = problem{problemType + code.String(), a.title, a.status, device.PublicMessage(err)}
		if a.retryAfter > 0 {
			header.Set("Retry-After", strconv.Itoa(a.retryAfter))
		}
		if code == device.Unauthenticated {
			header.Set("WWW-Authenticate", `Basic realm="tributary", charset="UTF-8"`)
		}
		if code == device.Internal {
			s.cfg.Logger.Error("request failed", "path", c.r.URL.Path, "remote", c.r.RemoteAddr, "error", err)
		}
	}
	if p.Status == http.StatusRequestTimeout || p.Status == http.StatusRequestEntityTooLarge {
		header.Set("Connection", "close")
	}
	body, _ := json.Marshal(p) // strings and an integer: cannot fail
	header.Set("Content-Type", "application/problem+json")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	c.written = true
	c.w.WriteHeader(p.Status)
	_, _ = c.w.Write(body) // the peer may be gone: it was told nothing wrong
	return p.Status
}
