#!/usr/bin/env bash
# Builds helm, promtool and the judge of health from tests/tools/go.mod.
#
#   go-tools.sh OUT      leaves the programs in OUT/bin; Go's cache makes it a matter of seconds when nothing has changed
set -euo pipefail

out=${1:?"usage: go-tools.sh OUT"}
mkdir -p "$out/bin"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/../tests/tools"

[[ -x $out/bin/helm && -x $out/bin/promtool ]] ||
  printf 'go tools: building helm and promtool into target/tools (2 to 4 minutes, once)\n' >&2
# promtool otherwise takes in the SDKs of twenty clouds, whose services nobody discovers here.
CGO_ENABLED=0 GOWORK=off GOFLAGS=-buildvcs=false \
  go build -trimpath -tags remove_all_sd -ldflags '-s -w' -o "$out/bin/" tool
