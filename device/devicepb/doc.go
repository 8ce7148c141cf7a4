// Package devicepb is the only mapping between the words of package device and
// their protobuf form in proto/tributary/v1.
//
// There are two ways in and out. Marshal… and Unmarshal… turn words into the
// bytes a stream holds and back; the telemetry message, which passes here more
// than a hundred thousand times a second, is written by hand and is byte for
// byte what the generated code writes (tests compare the two). …ToProto and
// …FromProto make the generated messages the API answers with, and add what
// only readers see: resource name, position token, stored time.
//
// Text fields of protobuf must be UTF-8: what is not is written with U+FFFD in
// the place of the bad bytes, and refused when read.
package devicepb
