// Package registry knows who may speak: principals, their credentials and
// whether they are let in. It answers every door's question, Authenticate,
// from a bounded cache over its Store, and the operator's questions (Add,
// List, Disable, Rotate …) from the Store itself.
//
// Secrets are generated here, 256 bits of randomness, shown once and kept only
// as HMAC-SHA256 under the server's pepper: checking one costs a microsecond, so
// a storm of reconnecting devices is not a storm of password hashing.
package registry
