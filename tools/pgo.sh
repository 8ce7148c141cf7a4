#!/usr/bin/env bash
# Makes the profile that go build optimizes the program with: where a server spends its
# time under each door's load. Takes two minutes of a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -pgo=off -o "$work/tributary" ./cmd/tributary
"$work/tributary" bench --for 20s --case mqtt-strict,amqp-strict,http-strict --profiles "$work"
go tool pprof -proto -output "$work/merged" "$work"/*.pprof
mv "$work/merged" cmd/tributary/default.pgo
