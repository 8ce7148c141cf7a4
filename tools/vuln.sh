#!/usr/bin/env bash
# Looks for known vulnerabilities in the code we really call (govulncheck), built
# with the Go release that go.mod names (or a newer one that is installed).
# Exits 0 when there are none, 3 when there are, 69 when no vulnerability
# database is within reach, so that nothing was checked, 1 for other errors.
#
# The database is the one GOVULNDB names (for example file:///path/of/a/mirror);
# else the public one; else, where only a module proxy can be reached, one made
# here from the module golang.org/x/vulndb, which is its source.
set -uo pipefail
cd "$(dirname "$0")/.."
export GOTOOLCHAIN=auto

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

check() { # [flags]: govulncheck; 69 when it could not read the database
  go tool -modfile=tools/go.mod govulncheck "$@" ./... 2> >(tee "$work/errors" >&2)
  local status=$?
  wait
  if [ "$status" -ne 0 ] && [ "$status" -ne 3 ] && grep -q 'fetching vulnerabilities' "$work/errors"; then
    return 69
  fi
  return "$status"
}

database() { # makes the database from its module
  local source
  source=$(cd "$work" && go mod download -json golang.org/x/vulndb@latest) || return 69
  source=$(sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' <<<"$source")
  (cd "$work" && go run golang.org/x/vulndb/cmd/indexdb@latest -vulns "$source/data/osv" -out "$work/db") || return 69
  echo "vuln: the database is made of $(basename "$source")" >&2
}

if [ -n "${GOVULNDB:-}" ]; then
  check -db "$GOVULNDB"
  status=$?
else
  check
  status=$?
  if [ "$status" -eq 69 ]; then
    database && check -db "file://$work/db"
    status=$?
  fi
fi
if [ "$status" -eq 69 ]; then
  echo "vuln: NOT CHECKED: no vulnerability database can be reached from here." >&2
  echo "vuln: run 'make vuln' on a machine with internet, or set GOVULNDB to a mirror." >&2
fi
exit "$status"
