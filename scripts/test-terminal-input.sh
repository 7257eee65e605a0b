#!/usr/bin/env bash
# Type into a terminal through a gateway: staging, production, or a URL; then options of the probe.
set -euo pipefail
case ${1:-} in
  staging) service=websocket-gateway-staging ;;
  production) service=websocket-gateway ;;
  ws://* | wss://*) url=$1 ;;
  *) echo "usage: ${0##*/} staging|production|wss://HOST/ws [OPTION...]" >&2; exit 2 ;;
esac
shift
if [ -z "${url:-}" ]; then
  region=${CODITECT_MIGRATE_REGION:-us-central1}
  url=$(gcloud run services describe "$service" --region="$region" --format='value(status.url)')
  url=wss://${url#https://}/ws
fi
exec "$(dirname "${BASH_SOURCE[0]}")/coditect" gateway probe --url "$url" "$@"
