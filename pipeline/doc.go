// Package pipeline is the belt everything travels on: one durable stream of
// telemetry, one of commands, one of what became of them, and the buckets that
// remember who may speak and who holds which device. It alone imports nats.go
// and jetstreamext; the rooms around it speak the words of package device.
//
// One file is one thing that lives in JetStream: subject.go holds the only
// subject names, streams.go the only stream settings, publish.go and
// groupcommit.go the way in, persist.go the way to the store, feed.go the way
// to live readers and history.go to those who begin before the stream, deadletter.go what was refused, bucket.go the registry's
// records, mailbox.go the commands that wait for a device, commandlog.go what
// became of them, lease.go which session of a device is the newest.
package pipeline
