#!/usr/bin/env bash
# Starts the demo: run.sh <caddy> <Caddyfile>. Says first where to look.
set -euo pipefail

caddy=$1
config=$2

cat <<TEXT

  The demo page     http://localhost:8080/
                    try http://localhost:8080/?utm_source=newsletter too
  Its rows          .cache/demo/rows/*.ndjson, shown at the foot of the page too
  How it fares      $caddy session-context status --config $config
  To stop           Ctrl+C

TEXT
exec "$caddy" run --config "$config" --adapter caddyfile
