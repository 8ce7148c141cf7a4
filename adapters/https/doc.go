// Package https is the HTTP door: devices post telemetry, poll for commands,
// settle them and answer them, with nothing but an ordinary HTTP/1.1 client.
//
//	POST /v1/devices/{device}/telemetry[/{channel...}]     204 once stored
//	GET  /v1/devices/{device}/commands                     200, or 204 when none came in time
//	POST /v1/devices/{device}/commands/{id}:accept         204 once recorded; also :release, :reject
//	POST /v1/devices/{device}/commands/{id}/response       204 once recorded
//
// Names in the path are percent-encoded; a slash inside the channel separates
// its levels, encoded or not. Paths are taken as they are, never cleaned or
// redirected.
//
// # Who speaks
//
// HTTP Basic (RFC 7617): user "device@tenant", or "device" in tenant default,
// with the device's secret; or over TLS a client certificate of the device. A
// request with neither is let in only in open mode. Nothing is remembered from
// one request to the next.
//
// # WebSockets
//
// At the paths the configuration names a WebSocket (RFC 6455) carries another
// protocol's bytes, in binary messages: MQTT at /mqtt, AMQP at /amqp. The client
// must ask for that protocol as subprotocol ("mqtt", "amqp"). Who speaks is that
// protocol's to find out. A browser's page of another origin is refused (403)
// unless the configuration names it.
//
// # Telemetry
//
// The body is the payload, as it is; a Content-Encoding other than identity is
// refused. Content-Type is the declared type; application/x-www-form-urlencoded,
// which curl sends when told nothing, counts as none. Idempotency-Key is the
// message's key (its structured-field quotes are taken off).
// Tributary-Created-At (RFC 3339), else Date, is the device's clock. Every
// header Tributary-Property-{name} becomes the property {name} in lower case.
// Headers ce-{name} with ce-specversion among them make a CloudEvent of the
// request, and a body of type application/cloudevents-batch+json is a message
// for each of its events; docs/formats.md lists the formats.
//
// # Commands
//
// Query parameters of the poll; durations are written "30s" or as bare seconds:
//
//	wait  how long to hold the request when there is no command; above the
//	      configured maximum it is cut, and a mailbox is always given a moment
//	lock  how long the command is this device's to settle, at least 1 s
//	max   answer an array of at most this many, in place of one object
//	ack   "auto": the command counts as delivered, unconfirmed, once it is written
//
// With Accept: text/event-stream every command is one event ("command", its
// data the same object, its id the command's), until the client leaves or wait
// ends; max is then how many may be unsettled at a time.
//
// Settling carries lock_token (and for :reject perhaps reason) in a JSON object,
// a form or the query. A token is good for one delivery until it is settled, the
// lock runs out or another session of the device takes over; then it is stale:
// 409. A settlement repeated as it was, because its 204 got lost, is answered
// 204 again, for five minutes at least unless 10,000 others came since; so is an
// answer repeated with the same status, type and body. An answer to a command
// that is still locked settles it too, and an :accept after it is such a repeat.
//
// Concurrent polls of a device share one session. It ends shortly after the
// last poll, once no lock is outstanding, or when the device attaches elsewhere.
//
// Errors are application/problem+json (RFC 9457), see errors.go.
package https
