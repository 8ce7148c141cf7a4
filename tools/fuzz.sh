#!/usr/bin/env bash
# Runs every native fuzz target of the module, one after another: fuzz.sh [10s]
set -euo pipefail
cd "$(dirname "$0")/.."

time=${1:-10s}
targets=$(go test -list '^Fuzz' ./... | awk '
  /^Fuzz/ { name[n++] = $1 }
  /^ok/   { for (i = 0; i < n; i++) print $2, name[i]; n = 0 }')
if [ -z "$targets" ]; then
  echo "fuzz: no fuzz target found" >&2
  exit 1
fi
while read -r package target; do
  echo "== $target $package ($time)"
  go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" </dev/null
done <<<"$targets"
