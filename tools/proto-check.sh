#!/usr/bin/env bash
# Fails when the .proto files break their rules (buf lint) or when the committed
# Go and OpenAPI are not exactly what the pinned generators make of them. Changes nothing.
set -euo pipefail
cd "$(dirname "$0")/../proto"

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
generated() { find . -name '*.pb.go' -o -name '*.pb.gw.go' -o -name openapi.json; }
buf() { go tool -modfile=../tools/go.mod buf "$@"; }

buf lint
../tools/proto.sh "$out"
status=0
while IFS= read -r file; do
  if ! diff -u "$file" "$out/$file" >&2; then status=1; fi
done < <({ generated; cd "$out" && generated; } | sort -u)
if [ "$status" -ne 0 ]; then
  echo "proto-check: proto/ and what is generated of it differ: run 'make proto' and commit the result" >&2
fi
exit "$status"
