#!/usr/bin/env bash
# Starts the demo: run.sh <caddy> <Caddyfile>. Says first where to look.
set -euo pipefail

caddy=$1
config=$2
data=$("$caddy" environ | sed -n 's/^caddy\.AppDataDir=//p')

cat <<TEXT

  The demo page     http://localhost:8080/
                    try http://localhost:8080/?utm_source=newsletter too
  Its rows          $data/session_context/rows/*.ndjson
  How it fares      $caddy session-context status --config $config
  To stop           Ctrl+C

TEXT
exec "$caddy" run --config "$config" --adapter caddyfile
