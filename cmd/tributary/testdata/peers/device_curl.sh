#!/usr/bin/env bash
# A device on HTTP that is nothing but curl.
set -euo pipefail
base="http://$1:$2/v1/devices/$3"
user=()
if [ -n "${PEER_CA:-}" ]; then
  base="https://$1:$2/v1/devices/$3"
  user+=(--cacert "$PEER_CA")
fi
[ -n "${PEER_CERT:-}" ] && user+=(--cert "$PEER_CERT" --key "$PEER_KEY")
[ $# -gt 3 ] && user+=(--user "$4:$5")
curl() { command curl --silent --show-error --fail-with-body --max-time 60 "${user[@]}" "$@"; }
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" <<<"$command"; }

curl -H 'Content-Type: application/json' -d '{"temperature":21.5}' "$base/telemetry/room"
echo sent
command=$(curl "$base/commands?wait=50s")
id=$(field id)
curl -H 'Content-Type: application/json' -d "{\"lock_token\":\"$(field lock_token)\"}" "$base/commands/$id:accept"
curl -H 'Content-Type: application/json' -d '{"ok":true}' "$base/commands/$id/response?status=200"
echo "obeyed $(field name) $(field payload | base64 -d)"
