// Package mqtt is the MQTT door: MQTT 3.1.1 and 5 on one TCP port, over its own
// codec in package packet.
//
// # Sending telemetry
//
// A device publishes with QoS 0 or 1 to {device}/telemetry[/{channel}], or to
// the short form telemetry[/{channel}], which means itself. One "/" may lead.
// A PUBACK means the message is stored: PUBACKs are written in the order of the
// PUBLISH packets, as commits complete, while the next packets are being read.
// At most Config.Window messages of a connection are unacknowledged; MQTT 5
// hears of it as Receive Maximum, on 3.1.1 a full window stops the reading.
//
// On MQTT 5 the Content Type declares the payload's format, the user property
// message-id is the message's key, created-at (RFC 3339) is the device's clock,
// and all other user properties are stored with the message. Other properties
// of a PUBLISH (message expiry, response topic) have no meaning for telemetry.
// User properties that make a CloudEvent (binary mode) are read as one.
// docs/formats.md lists the formats.
//
// # Receiving and answering commands
//
// A device subscribes to one of these, with or without a leading "/":
//
//   - {device}/commands or commands: a command arrives on that very topic, its
//     payload alone.
//   - {device}/commands/# or commands/#: it arrives on
//     {device}/commands/{id}/{name}, or commands/{id}/{name}. {name} is one
//     level, for a name holds no / + or #; it may be empty. With both kinds of
//     subscription, the one with # gets the command.
//
// QoS 1 gives a receipt: PUBACK settles the command as delivered, a PUBACK with
// a failure reason (MQTT 5) as rejected. With QoS 0 it is settled as
// unconfirmed once written. DUP is set from the second attempt on.
//
// It answers on {device}/responses/{id}/{status} or responses/{id}/{status};
// the status is an integer from 100 to 599, 2xx being success. A PUBACK means
// that the answer is recorded.
//
// MQTT 5 needs no topic arithmetic. A command that wants an answer carries
// Response Topic {device}/responses/{id} (in the form of the subscription:
// short, or with a leading "/", where that was) and Correlation Data {id}. The
// device publishes its answer there, with the status in the user property
// status (200 when there is none). Correlation Data is optional in the answer;
// when present it must be the id. Commands also carry their Content Type, the
// time left as Message Expiry Interval, and their name as user property name.
//
// # Refusals
//
// A message that will not be kept is refused in a PUBACK on MQTT 5 (the table
// is in errors.go). Where there is no word for it, on 3.1.1 and for QoS 0, the
// connection is closed, on MQTT 5 with a DISCONNECT. When the outcome is not
// known, the connection is closed without a PUBACK, so that the device sends
// again. One exception: an answer to a command that has ended already is
// acknowledged on 3.1.1, because sending it again could never help; it leaves
// its trail like any other refusal.
//
// # What is not supported yet, and what we say about it
//
//   - Sessions end with the connection. Session Present is always 0 and MQTT 5
//     is told a Session Expiry Interval of 0, whatever was asked.
//   - QoS 2: announced as Maximum QoS 1; a QoS 2 PUBLISH ends the connection
//     (0x9B). A subscription asking for QoS 2 is granted QoS 1.
//   - Retained messages: announced as not available; RETAIN ends a MQTT 5
//     connection (0x9A). 3.1.1 has no such word, and the flag is ignored there:
//     the message is stored like any other.
//   - Wills: a CONNECT with a will is refused, since accepting it would be a
//     promise we would silently break. MQTT 5 gets 0x83 and the reason in words
//     (0x9A for a retained will, 0x9B for QoS 2), 3.1.1 gets return code 5 (not
//     authorized): code 3 (unavailable) would make the device try for ever.
//   - Other topics: PUBACK 0x90, SUBACK 0x8F; closed, and 0x80, on 3.1.1.
//   - Topic aliases, shared subscriptions, subscription identifiers and
//     extended authentication: announced as not available.
package mqtt
