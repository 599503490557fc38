#!/usr/bin/env bash
# Builds mdBook from its source in the crates registry, with the versions of its own lock file.
#
#   mdbook.sh OUT      makes OUT/bin/mdbook; does nothing when it is there in this version
set -euo pipefail

version=0.5.4
out=${1:?"usage: mdbook.sh OUT"}

say() { printf 'mdbook: %s\n' "$*" >&2; }

if [[ $("$out/bin/mdbook" --version 2>/dev/null) == "mdbook v$version" ]]; then
  exit 0
fi

say "building $version into target/tools (3 to 8 minutes, once)"
started=$(date +%s)
# A folder of its own, removed afterwards: its crates have nothing in common with ours.
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
# Without its web server and its watching of files, which are half of it.
CARGO_TARGET_DIR=$build cargo install --quiet --locked --force --root "$out" --no-default-features --features search \
  mdbook --version "=$version" 2>&1 | { grep -v 'be sure to add' || true; } >&2
say "built in $(($(date +%s) - started)) s"
