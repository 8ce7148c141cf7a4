// Package token knows who may call the API: tokens, each with a role in one
// tenant. Their text is generated, 256 bits of randomness, shown once and kept
// only as HMAC-SHA256 under the server's pepper. All of them are in memory,
// kept true by one watcher, so that a check costs a microsecond and a token that
// is removed ends, with the calls it opened, within a second on every node.
package token
