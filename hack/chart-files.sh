#!/usr/bin/env bash
# Copies into the chart what it takes from elsewhere in this repository: a chart can read only its own folder.
#
#   chart-files.sh [OUT]      OUT: the chart's files/ unless given
set -euo pipefail

cd "$(dirname "$0")/.."
out=${1:-deploy/helm/instance-role-controller/files}
mkdir -p "$out/crds"
cp crds/instancerole.dev_*.yaml "$out/crds/"
# The policy alone; its binding is the chart's own.
sed '/^---$/,$d' deploy/kustomize/default/controller-guard.yaml >"$out/controller-guard.yaml"
cp deploy/kustomize/admission/early-refusal.yaml deploy/monitoring/prometheus-rules.yaml deploy/monitoring/dashboard.json "$out/"
