package api

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// problem is a refusal in REST's words (RFC 9457): the gRPC status, said in HTTP.
type problem struct {
	Type   string `json:"type"` // urn:tributary:problem:not-found; names, leads nowhere
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Code   string `json:"code"` // the gRPC code: NOT_FOUND

	// Info is the status's ErrorInfo (AIP-193), when there is one.
	Info map[string]string `json:"info,omitempty"`
}

// problemOf says a status in HTTP, as google/rpc/code.proto maps it.
func problemOf(st *status.Status) problem {
	code := st.Code()
	p := problem{Status: runtime.HTTPStatusFromCode(code), Detail: st.Message(), Code: screaming(code)}
	p.Type = "urn:tributary:problem:" + strings.ToLower(strings.ReplaceAll(p.Code, "_", "-"))
	if p.Title = http.StatusText(p.Status); p.Title == "" {
		p.Title = code.String()
	}
	if info := infoOf(st); info != nil {
		p.Info = info.GetMetadata()
	}
	return p
}

// screaming is the name of a code as google/rpc/code.proto spells it.
func screaming(code codes.Code) string {
	if code == codes.Canceled {
		return "CANCELLED"
	}
	var b strings.Builder
	for i, r := range code.String() {
		if i > 0 && 'A' <= r && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String())
}

// infoOf answers the ErrorInfo of a status, nil when it has none.
func infoOf(st *status.Status) *errdetails.ErrorInfo {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	return nil
}

const problemType = "application/problem+json"

// writeProblem answers a refusal.
func writeProblem(w http.ResponseWriter, p problem) {
	problemHeader(w.Header(), p.Status)
	w.WriteHeader(p.Status)
	if raw, err := json.Marshal(p); err == nil { // strings and numbers: it cannot fail
		_, _ = w.Write(append(raw, '\n'))
	}
}

// problemHeader says of a refusal when to come back, or with what.
func problemHeader(h http.Header, code int) {
	h.Del("Transfer-Encoding")
	h.Set("Content-Type", problemType)
	h.Set("Cache-Control", "no-store")
	switch code {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	}
}
