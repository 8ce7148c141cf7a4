// Package command is the life of a command: from QUEUED to its one end,
// the same on every protocol.
//
// # Where the truth is
//
// Two streams hold everything. COMMANDS holds the immutable requests: being
// there is being QUEUED, so one publish creates a command. COMMAND_EVENTS holds
// the transitions, appended with compare-and-set on the device's last event;
// the terminal event is the end, and removal of the request is lazy. What this
// package keeps in memory can be folded again from the two at any time, and is,
// after a conflict, an unclear outcome or a restart.
//
// # How it works
//
//   - Next is the table of states as one pure function. Every transition, in
//     production and in tests, is what Next answered.
//   - A device that somebody speaks with has an actor (actor.go): its commands,
//     its sessions, and one queue of things to do, worked off one at a time. It
//     is loaded on demand and dropped when idle, so registered devices cost
//     nothing.
//   - The node reads both streams once (feed.go) and so keeps a small table of
//     the commands that have not ended (table.go): their deadlines, and what may
//     be removed from the streams (sweep.go).
//
// Adapters meet the Service through adapters.Gate (Attach, Respond), the API
// through Send, Get, Cancel and Watch.
package command
