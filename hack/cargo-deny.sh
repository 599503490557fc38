#!/usr/bin/env bash
# Builds cargo-deny from its source in the crates registry, with the versions of its own lock file.
#
#   cargo-deny.sh OUT      makes OUT/bin/cargo-deny; does nothing when it is there in this version
set -euo pipefail

version=0.20.2
out=${1:?"usage: cargo-deny.sh OUT"}

say() { printf 'cargo-deny: %s\n' "$*" >&2; }

if [[ $("$out/bin/cargo-deny" --version 2>/dev/null) == "cargo-deny $version" ]]; then
  exit 0
fi

say "building $version into target/tools (2 to 3 minutes, once)"
started=$(date +%s)
# A folder of its own, removed afterwards: its crates have nothing in common with ours.
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
CARGO_TARGET_DIR=$build cargo install --quiet --locked --force --root "$out" cargo-deny --version "=$version" 2>&1 |
  { grep -v 'be sure to add' || true; } >&2
say "built in $(($(date +%s) - started)) s"
