#!/usr/bin/env bash
# Phase 1: the PTY fix to staging, a share of production, all of it. Options: docs/migrations.md.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/coditect" migrate phase1 "$@"
