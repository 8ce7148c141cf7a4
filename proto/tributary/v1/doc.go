// Package tributaryv1 is generated from the .proto files beside it: the wire
// form of the stream's messages and the gRPC services. `make proto` makes it.
package tributaryv1
