// Package mqtt is the MQTT door: MQTT 3.1.1 and 5 on one TCP port, over its own
// codec in package packet.
//
// # Sending telemetry
//
// A device publishes with any QoS to {device}/telemetry[/{channel}], or to
// the short form telemetry[/{channel}], which means itself. One "/" may lead.
// A PUBACK or PUBREC means the message is stored: they are written in the order
// of the PUBLISH packets, as commits complete, while the next packets are being
// read. At most Config.Window messages of a connection are unacknowledged (those
// with QoS 2 until PUBREL); MQTT 5 hears of it as Receive Maximum, on 3.1.1 a full
// window stops the reading. Whatever comes again under the identifier of a QoS 2
// message before its PUBREL is that message.
//
// On MQTT 5 the Content Type declares the payload's format, the user property
// message-id is the message's key, created-at (RFC 3339) is the device's clock,
// and all other user properties are stored with the message. Other properties
// of a PUBLISH (message expiry, response topic) have no meaning for telemetry.
// A topic alias may stand for the topic, Config.AliasesIn of them at a time.
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
// A gateway subscribes for each of its devices: on one connection for at most
// Config.MaxAttachments.
//
// A subscription with QoS 2 is granted QoS 1, for each delivery is an attempt of
// its own. QoS 1 gives a receipt: PUBACK settles the command as delivered, a PUBACK with
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
// # Topics
//
// Every other topic is one of the tenant's own, up to 512 bytes and 32 levels:
// published and subscribed to with any QoS, by wildcards, across nodes. A
// message with QoS 1 or 2 is acknowledged when it is in the stream TOPICS as
// durably as telemetry; one with QoS 0 is passed on and kept nowhere. All a MQTT 5
// message carries arrives as it was sent, the time it has left less what it took.
// Telemetry, from whatever protocol it came, is seen on {device}/telemetry
// [/{channel}], with its message-id and created-at as user properties.
//
// A device may use what is below its own name, {device}/…, and a gateway that of
// the devices it speaks for; an application all of its tenant, and so may anybody
// in open mode (device.Principal.UseTopic). Topics that begin with $ are
// reserved. Wildcards do not take commands or answers.
//
// A subscriber that reads slowly gets at most Config.Window messages ahead of its
// acknowledgements, fewer if its Receive Maximum says so, and later what it
// missed; with QoS 0 it misses it.
//
// Sessions that subscribe to $share/{group}/{filter}, on 3.1.1 too, share what the
// filter takes: each message goes to one of them, on any node, in turn and as each
// can take more. One with QoS 1 is that client's until it acknowledges or its
// connection ends, and then another's; one with QoS 2 stays with its session. What
// comes while none is connected waits for the first that is back. Who may use the
// filter may share it; retained messages do not come by it.
//
// An application (and in open mode anybody) sends a command by publishing to
// {device}/commands: the PUBACK says that it is durable. Its name is empty, its
// deadline is Message Expiry. With a Response Topic, one of the tenant's own, the
// command wants an answer, and its id is published there with the Correlation
// Data; without one it is one-way. The device's answer is found by the id over
// gRPC and REST.
//
// # Refusals
//
// A message that will not be kept is refused in a PUBACK or PUBREC on MQTT 5 (the table
// is in errors.go). Where there is no word for it, on 3.1.1 and for QoS 0, the
// connection is closed, on MQTT 5 with a DISCONNECT. When the outcome is not
// known, the connection is closed without a PUBACK, so that the device sends
// again. One exception: an answer to a command that has ended already is
// acknowledged on 3.1.1, because sending it again could never help; it leaves
// its trail like any other refusal.
//
// # Sessions, wills and retained messages
//
// A session outlives its connection for the Session Expiry Interval, at most
// Config.MaxSessionExpiry (told in CONNACK); on 3.1.1 for as long, unless it is
// clean. What is promised is durable before it is said: the session and its will
// before CONNACK, a subscription before SUBACK, an identifier of a QoS 2 message
// before PUBREC, PUBLISH, PUBREL and PUBCOMP. It goes on at whichever node its
// client comes to: with its subscriptions, those to commands too, what was sent
// and not finished under the same identifiers, and then what it missed. Session
// Present says so, and nothing else. A newer connection ends the one before (0x8E).
//
// A will is on one of the tenant's own topics. It is published when the session
// is lost, or left with reason 0x04, after its delay, or when the session ends
// before; also when its node dies. A client that is back in time takes it back.
//
// The retained message of a topic is the last that had RETAIN; an empty one takes
// it away, and Message Expiry ends it. Telemetry may be retained, too.
//
// # What is not supported, and what we say about it
//
//   - Extended authentication: refused (0x8C).
//   - A will on a topic of telemetry: refused (0x90; return code 5 on 3.1.1).
package mqtt
