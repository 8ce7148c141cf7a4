// Package api answers people and programs over gRPC and REST: the services of
// proto/tributary/v1, with reflection and health. It decides who may call (a
// bearer token), turns resource names and pages into the words of package
// device, and errors into gRPC codes. What it needs of the house it states in
// contracts.go.
//
// REST is generated from the annotations in proto/ and goes through the same
// guard, over a connection in memory (local.go): JSON as the command line
// prints it, refusals as application/problem+json (RFC 9457), streams as
// server-sent events or one object a line.
//
// Names and paging follow the Google API improvement proposals: 122 (resource
// names), 127 (HTTP), 158 (pagination), 159 (the "-" wildcard), 193 (errors).
package api
