// Package topic is the life of a tenant's own topics: who is subscribed to what,
// what each session was offered and has yet to get, what is retained, and what
// is left behind by a session that ends.
//
// A session is a reader with a position in the stream of topics and one in that
// of telemetry. While it keeps up, it is served by the node's one feed of each
// stream. When it does not, or was away, it is behind: it is read for alone,
// from its position, as fast as it asks, until it meets the feed again. So what a
// session costs while it is away is its record, and while it is slow a bounded
// queue. docs/decisions/0021-topics-by-position.md says why.
//
// The sessions of a shared subscription are a group, which has one position for all:
// docs/decisions/0028-shares-are-consumers.md.
//
// It implements adapters.Topics and knows neither protocols nor NATS; what it
// needs of the streams is in contracts.go.
package topic
