// Package wire is the AMQP 1.0 byte layer (ISO/IEC 19464): the type system
// (part 1), frames and performatives (part 2), the message format (part 3) and
// the SASL frames (part 5). It knows no socket and no device.
//
// Everything that decodes takes bytes from strangers: sizes and counts are
// checked against the bytes that are there before anything is allocated, nesting
// is bounded by MaxDepth, and no input makes a decoder panic.
package wire
