#!/usr/bin/env bash
# Type into a terminal through a gateway: staging, production, or a URL; then options of the probe.
# Which services those are is said by the context: coditect context set NAME migrate.service=...
set -euo pipefail
case ${1:-} in
  staging | production) where=(--service "$1") ;;
  ws://* | wss://*) where=(--url "$1") ;;
  *) echo "usage: ${0##*/} staging|production|wss://HOST/ws [OPTION...]" >&2; exit 2 ;;
esac
exec "$(dirname "${BASH_SOURCE[0]}")/coditect" gateway probe "${where[@]}" "${@:2}"
