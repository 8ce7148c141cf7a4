// Package amqp is the AMQP 1.0 door: a server side of our own over TCP, because
// no Go library has one. Package wire holds the bytes; this package holds the
// conversation.
//
// Spoken: protocol headers for SASL and bare AMQP with pipelined opens (part 2,
// section 2; part 5), SASL ANONYMOUS and PLAIN, heartbeats, sessions with
// windows, links with credit, drain and echo, multi-frame, aborted and
// interleaved transfers, settled and unsettled deliveries, either side settling
// second, links stolen by name within a connection, the anonymous terminus
// (OASIS anonterm 1.0). Refused in the protocol's words: TLS inside the
// connection, transactions, dynamic targets. Links are not resumed: the
// map of unsettled deliveries is always empty, and a resumed delivery is passed
// over. docs/amqp.md has every requirement with the test that holds it.
//
// # What a device sees
//
//   - A sender to {device}/telemetry[/{channel}], or telemetry[/{channel}] for
//     itself. The outcome is accepted once the message is stored, otherwise
//     rejected with a condition; amqp:resource-limit-exceeded and
//     amqp:internal-error mean: send it again. (The outcome released would say
//     so too, but common clients take every outcome but rejected for success.)
//     The properties content-type, message-id and creation-time declare the
//     format, the key and the device's clock, application properties are stored
//     with the message, and so are its other properties and its annotations, as
//     amqp.subject and amqp.annotation.x-opt-name; those of a CloudEvent are read
//     as one (docs/formats.md). The body is data sections, or a string or binary
//     value; any other value, and sequences, are kept as their JSON.
//
//   - A sender with a null target: each message's "to" is the address.
//
//   - A receiver from {device}/commands, or commands. Accepted, rejected and
//     released end a delivery as they say; modified means released, or rejected
//     when undeliverable-here is set; settled without an outcome means released.
//
//   - A sender to {device}/responses, the reply-to of every command, with
//     correlation-id = the command's message-id and an application property
//     status (HTTP-like; 200 when left out).
//
//   - A receiver from a dynamic node gets an address of its own, $reply/…, at
//     which peers of its tenant reach it, at any node; they settle end to end.
//
// # What an application sees
//
//   - A receiver from telemetry[/{channel}[/#]] or {device}/telemetry[…] reads its
//     tenant's telemetry, from now on or from where the filter tributary:from says;
//     with a durable source, or the capability shared, on a named subscription that
//     several receivers share and that outlives them.
//   - A sender to {device}/commands: accepted once the command is durable. Its
//     reply-to, a dynamic node or {application}/responses, is told its id and state,
//     and how it ended, with the device's answer.
//
// In open mode everybody is all of this.
//
// # Credit
//
// What a link carries is asked of the house as far as its credit goes. A mailbox
// of commands does not take requests back, so when a receiver drains, what it
// asked for and did not get is given up by detaching from the mailbox, which the
// next credit attaches again; while deliveries are still unsettled, a late offer is
// kept until there is credit or the last of them is settled. Telemetry and reply
// nodes take requests back; what comes too late for that is released.
package amqp
