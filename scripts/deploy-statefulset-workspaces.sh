#!/usr/bin/env bash
# Phase 2: a cluster whose workspaces are StatefulSets. Options: docs/migrations.md.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/coditect" migrate phase2 "$@"
