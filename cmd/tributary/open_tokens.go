package main

import (
	"context"
	"path/filepath"

	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/registry"
	"github.com/tributary-iot/tributary/token"
)

// openTokens makes who may call the API, on the belt's bucket and under the key
// that hashes devices' secrets, which is the same on every node.
func (h *house) openTokens(ctx context.Context, belt *pipeline.Belt) (*token.Book, error) {
	pepper, err := registry.LoadPepper(filepath.Join(h.cfg.Data, pepperFile))
	if err != nil {
		return nil, err
	}
	bucket, err := belt.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	book, err := token.New(token.Config{Store: bucket, Pepper: pepper, Logger: h.log.With("room", "token"), Registerer: h.metrics})
	if err != nil {
		return nil, err
	}
	h.add(part{name: "tokens", run: book.Run, stop: book.Shutdown})
	return book, nil
}
