// Package api answers people and programs over gRPC: DeviceService,
// CommandService and TelemetryService of proto/tributary/v1, with reflection and
// health. It decides who may call (a bearer token), turns resource names and
// pages into the words of package device, and errors into gRPC codes. What it
// needs of the house it states in contracts.go.
//
// Names and paging follow the Google API improvement proposals: 122 (resource
// names), 158 (pagination), 159 (the "-" wildcard), 193 (errors).
package api
