#!/usr/bin/env bash
# A device on MQTT that is nothing but mosquitto_pub and mosquitto_sub.
set -euo pipefail
at=(-h "$1" -p "$2" -V mqttv311 -q 1)
[ $# -gt 3 ] && at+=(-u "$4" -P "$5")
[ -n "${PEER_CA:-}" ] && at+=(--cafile "$PEER_CA")
[ -n "${PEER_CERT:-}" ] && at+=(--cert "$PEER_CERT" --key "$PEER_KEY")

mosquitto_pub "${at[@]}" -i "$3-pub" -t "$3/telemetry/room" -m '{"temperature":21.5}'
echo sent
read -r topic payload < <(mosquitto_sub "${at[@]}" -i "$3" -t "$3/commands/#" -C 1 -W 60 -F '%t %p')
IFS=/ read -r _ _ id name <<<"$topic"
mosquitto_pub "${at[@]}" -i "$3-pub" -t "$3/responses/$id/200" -m '{"ok":true}'
echo "obeyed $name $payload"
