#!/usr/bin/env bash
# Builds helm, promtool and the judges of health and dashboard from tests/tools/go.mod.
#
#   go-tools.sh OUT      leaves the programs in OUT/bin; Go's cache makes it a matter of seconds when nothing has changed
set -euo pipefail

out=${1:?"usage: go-tools.sh OUT"}
mkdir -p "$out/bin"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/../tests/tools"

if ! command -v go >/dev/null; then
  printf 'go tools: needs Go 1.26 or newer to build helm and promtool, and no go is in PATH\n' >&2
  exit 1
fi
[[ -x $out/bin/helm && -x $out/bin/promtool ]] ||
  printf 'go tools: building helm and promtool into target/tools (2 to 4 minutes, once)\n' >&2
# promtool otherwise takes in the SDKs of twenty clouds, whose services nobody discovers here.
CGO_ENABLED=0 GOWORK=off GOFLAGS=-buildvcs=false \
  go build -trimpath -tags remove_all_sd -ldflags '-s -w' -o "$out/bin/" tool

# What the Prometheus Operator makes of the chart's objects is known from its CRDs.
cd prometheus-operator
operator=$(GOWORK=off GOFLAGS=-mod=readonly go mod download -json github.com/prometheus-operator/prometheus-operator |
  sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
mkdir -p "$out/crds"
for kind in servicemonitors prometheusrules; do
  install -m 644 "$operator/example/prometheus-operator-crd/monitoring.coreos.com_$kind.yaml" "$out/crds/"
done
