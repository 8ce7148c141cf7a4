package https

import (
	"errors"
	"io"
	"net/http"

	"github.com/tributary-iot/tributary/device"
)

// firstRead is the most we allocate on the word of a Content-Length alone.
const firstRead = 64 << 10

// readBody reads a body of at most limit bytes. On an error it gives what came
// before it. The bytes are the caller's own.
func readBody(r *http.Request, limit int) ([]byte, error) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return nil, errEncoded
	}
	if r.ContentLength > int64(limit) {
		return nil, tooLarge(limit)
	}
	if n := r.ContentLength; n >= 0 && n <= firstRead {
		body := make([]byte, n)
		got, err := io.ReadFull(r.Body, body)
		if err != nil {
			return body[:got], bodyError(r.Context(), err)
		}
		return body, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, int64(limit)+1))
	switch {
	case err != nil:
		return body, bodyError(r.Context(), err)
	case len(body) > limit:
		return body[:limit], tooLarge(limit)
	}
	return body, nil
}

func tooLarge(limit int) error {
	return device.Errorf(device.TooLarge, "the body is longer than %d bytes", limit)
}

// isTooLarge reports whether err is about size.
func isTooLarge(err error) bool {
	var e *device.Error
	return errors.As(err, &e) && e.Code == device.TooLarge
}
