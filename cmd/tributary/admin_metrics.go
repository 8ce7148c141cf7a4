package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/tributary-iot/tributary/device"
)

// scrapers says who may read the metrics where others than this machine can
// reach them: whoever shows the operator's token, or an API token of any tenant
// that is not an application's.
type scrapers struct {
	operator string
	verify   func(ctx context.Context, text string) (device.Token, context.Context, error)
}

// guard lets scrapers through to next, and tells others what is missing.
func (s scrapers) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch err := s.admit(r); {
		case err == nil:
			next.ServeHTTP(w, r)
		case device.CodeOf(err) == device.Unauthenticated:
			w.Header().Set("WWW-Authenticate", `Bearer realm="metrics"`)
			http.Error(w, device.PublicMessage(err), http.StatusUnauthorized)
		case device.CodeOf(err) == device.Forbidden:
			http.Error(w, device.PublicMessage(err), http.StatusForbidden)
		default:
			http.Error(w, device.PublicMessage(err), http.StatusServiceUnavailable)
		}
	})
}

func (s scrapers) admit(r *http.Request) error {
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return device.Errorf(device.Unauthenticated, "metrics need authorization: Bearer TOKEN here, where TOKEN is an API token (tributary token create NAME --role viewer), or the one in admin.token of the server's data directory")
	}
	shown, operator := sha256.Sum256([]byte(text)), sha256.Sum256([]byte(s.operator))
	if subtle.ConstantTimeCompare(shown[:], operator[:]) == 1 {
		return nil
	}
	token, _, err := s.verify(r.Context(), text)
	if err == nil && token.Role == device.RoleApplication {
		err = device.Errorf(device.Forbidden, "token %q has the role application, which may not read metrics: a viewer's may", token.Name)
	}
	return err
}
