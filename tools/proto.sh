#!/usr/bin/env bash
# Generates into DIR (default: proto/) what the pinned generators make of the
# .proto files: Go, gRPC, the REST gateway, and the OpenAPI document.
set -euo pipefail
cd "$(dirname "$0")/../proto"
out=$(realpath "${1:-.}")
go tool -modfile=../tools/go.mod buf generate -o "$out"
swagger=$out/tributary/v1/openapi.swagger.json # OpenAPI 2, on the way to 3
(cd ../tools && go run ./openapi "$swagger" "$out/tributary/v1/openapi.json")
rm "$swagger"
