package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// httpConnections is how many keep-alive connections post, one request at a time each.
const httpConnections = 50

// loadHTTP posts on keep-alive connections.
func loadHTTP(ctx context.Context, addr string, _ Options) (result, error) {
	return fanOut(ctx, httpConnections, func(ctx context.Context, i int) (result, error) {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: ackPatience}
		defer client.CloseIdleConnections()
		url := fmt.Sprintf("http://%s/v1/devices/bench-%d/telemetry/line", addr, i)
		var r result
		for n := 1; ctx.Err() == nil; n++ {
			start := time.Now()
			response, err := client.Post(url, "application/json", bytes.NewReader(payload(i, n)))
			if err != nil {
				return r, err
			}
			_, err = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			switch {
			case err != nil:
				return r, err
			case response.StatusCode == http.StatusServiceUnavailable:
				r.refused++
			case response.StatusCode >= 300:
				return r, fmt.Errorf("POST %s: %s", url, response.Status)
			default:
				r.acked++
				r.latencies = append(r.latencies, time.Since(start))
			}
		}
		return r, nil
	})
}
