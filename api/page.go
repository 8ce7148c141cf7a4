package api

import (
	"encoding/base64"

	"github.com/tributary-iot/tributary/device"
)

// pageBytes is about how large an answer may grow before the page is cut and
// the rest left to the next one: below the 4 MiB clients take by default. One
// item is answered whatever its size.
const pageBytes = 3 << 20

// firstChunk and maxChunk bound how many items are asked of the store at once:
// few at first, because each may be as large as a message can be.
const (
	firstChunk = 64
	maxChunk   = 1024
)

// pageSize reads page_size: absent means def, more than most means most (AIP-158).
func pageSize(n int32, def, most int) (int, error) {
	switch {
	case n < 0:
		return 0, device.Errorf(device.Invalid, "page size %d is negative", n)
	case n == 0:
		return def, nil
	}
	return min(int(n), most), nil
}

// pager gathers one page of at most want items, and at most pageBytes, out of
// smaller steps. fetch answers up to limit items from a cursor on, in the order
// of paging, and the cursor of what follows ("" for nothing).
type pager[T any] struct {
	want  int
	fetch func(limit int, cursor string) ([]T, string, error)
	size  func(T) int
}

// collect answers the page and the cursor of the next one.
func (p pager[T]) collect(cursor string) (page []T, next string, err error) {
	used := 0
	for chunk := firstChunk; ; chunk = min(4*chunk, maxChunk) {
		items, next, err := p.fetch(min(chunk, p.want-len(page)), cursor)
		if err != nil {
			return nil, "", err
		}
		fit := 0
		for fit < len(items) && (used < pageBytes || len(page)+fit == 0) {
			used += p.size(items[fit])
			fit++
		}
		if fit < len(items) { // too much: only what fits, so that the cursor is right
			if fit == 0 {
				return page, cursor, nil
			}
			items, next, err = p.fetch(fit, cursor)
			return append(page, items...), next, err
		}
		page = append(page, items...)
		if next == "" || len(page) >= p.want {
			return page, next, nil
		}
		cursor = next
	}
}

var errPageToken = device.Errorf(device.Invalid, "page_token is not one this call gave; leave it out to begin anew")

// nameToken is a page token that goes on after a device name.
func nameToken(name string) string { return base64.RawURLEncoding.EncodeToString([]byte("n" + name)) }

// parseNameToken reads a nameToken; "" is the start.
func parseNameToken(token string) (string, error) {
	if token == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token[:min(len(token), 2*device.MaxDeviceBytes)])
	if err != nil || len(b) < 2 || b[0] != 'n' {
		return "", errPageToken
	}
	return string(b[1:]), nil
}

// checkToken bounds a store's cursor before the store sees it.
func checkToken(token string) error {
	if len(token) > 1024 {
		return errPageToken
	}
	return nil
}
