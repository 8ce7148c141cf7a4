// Package device holds the words every room shares: who a device is, what it
// says (Message, Measurement), what it is told (Command, CommandEvent), how it
// proves itself (Credential, Principal) and how it is turned away (Error).
//
// The package imports the standard library only and does no input or output.
// Rooms talk to each other in these words and never import one another.
package device
