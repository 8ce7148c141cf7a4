// Package presence knows who is here: every session that is open at a door of
// this node, and how to end it. It tells the streams of each beginning and end,
// so that people on any node see who is connected, where, and why somebody left.
//
// A session is a connection, or on HTTP the polls a device has open. A device
// may have several at a time. Two rules end one for another: of two MQTT
// sessions of one device with the same client id only the newer lives, wherever
// the older is; and a session whose device has taken its lease on another node
// ends (the command room tells; see Service.Moved).
package presence
