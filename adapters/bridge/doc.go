// Package bridge brings in what devices send to an AMQP 1.0 broker that is already
// there, and takes their commands out to it. It is a client: it listens nowhere,
// and each Link is one connection to one broker.
//
// # In
//
// A Link receives from the addresses it names. Its rule (rule.go) reads from each
// message which device it is of, and which channel. The message is accepted once
// it is stored; rejected, with a dead letter, when it never will be; released when
// the house has no room for it now. What may be unanswered is bounded by Credit,
// so a house that is behind stops the broker. A message-id is the message's key, as
// at the door: a broker that delivers one again has it stored once.
//
// # Out
//
// A Link speaks for the devices of a pattern, as a gateway does, and is one by the
// name of the Link: a message says that it came via the Link. With Commands, the
// devices that the pattern names, and those heard of, are attached while the broker
// is connected; each command goes to the address made for its device. The broker's
// accepted ends our part of the delivery, and is kept as unconfirmed: it is no
// receipt of the device (docs/decisions/0027). Answers are read from Replies by the
// command's correlation-id.
//
// # When the broker is away
//
// The connection is made again after a while, which grows, with jitter. Commands
// wait in their queue meanwhile. What was received and not answered is the broker's
// to deliver again.
//
// # Not spoken
//
// Transactions; links resumed with what was unsettled; positions of a log (Event
// Hubs keeps none for its readers: see docs/bridge.md).
package bridge
