#!/usr/bin/env bash
# Looks for known vulnerabilities in the code we really call (govulncheck).
# Exits 0 when there are none, 3 when there are, 69 when the vulnerability
# database cannot be reached, so that nothing was checked, 1 for other errors.
# GOVULNDB names another database, for example file:///path/of/a/mirror.
set -uo pipefail
cd "$(dirname "$0")/.."

errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
go tool -modfile=tools/go.mod govulncheck ./... 2> >(tee "$errors" >&2)
status=$?
wait
if [ "$status" -ne 0 ] && [ "$status" -ne 3 ] && grep -q 'fetching vulnerabilities' "$errors"; then
  echo "vuln: NOT CHECKED: the vulnerability database cannot be reached from here." >&2
  echo "vuln: run 'make vuln' on a machine with internet, or set GOVULNDB to a mirror." >&2
  exit 69
fi
exit "$status"
