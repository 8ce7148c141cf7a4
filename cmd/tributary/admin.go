package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/internal/doorway"
)

// admin is the operator's listener: health, metrics and REST.
type admin struct {
	listener *doorway.Door
	server   *http.Server
}

// openAdmin binds the doorway. metrics answers /metrics, ready /readyz, and rest,
// nil on a node without an API, what begins with /v1/ and /openapi.json.
func openAdmin(at doorway.Config, metrics, ready http.Handler, rest *api.Server) (*admin, error) {
	listener, err := doorway.Open(at)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("GET /readyz", ready)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	if rest != nil {
		mux.Handle("/v1/", rest.Handler())
		mux.Handle("/openapi.json", rest.Handler())
		server.RegisterOnShutdown(rest.EndStreams) // they do not end by themselves
	}
	return &admin{listener, server}, nil
}

// Serve answers until Shutdown.
func (a *admin) Serve() error {
	if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Shutdown closes the listener and waits for answers under way. It works
// before Serve and twice.
func (a *admin) Shutdown(ctx context.Context) error {
	a.listener.Close() // the server closes it, too, but only once Serve has seen it
	if err := a.server.Shutdown(ctx); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
