// Package batch sends one command to many devices: a fixed snapshot of them, at a
// rate, with a window, until all have ended or too many have failed.
//
// # Where the truth is
//
// A batch is one record and its devices in parts of PartSize, all kept by Store
// and replaced by compare-and-set only. The record says what is sent, whether it
// runs, how far sending may have come (Reach), and which incarnation of which node
// drives it. A part holds its devices and what became of each. Both are written
// about once a second, so after a crash they are behind; what is missing is found
// again, because every command of a batch has the batch's key: sending it twice to
// a device answers the first. So each device gets one command, whatever is killed
// when.
//
// # How it works
//
// Every node knows all records by one reader (book.go) and answers questions about
// them. A node that drives looks for records whose driver is dead (drive.go),
// claims them, and runs each (run.go): it sends from the snapshot in order, hears
// of ends from the command room, and writes down what became of whom. Pausing and
// cancelling only change the record; its driver hears of that like everybody.
package batch
