#!/usr/bin/env bash
# Makes a Python environment with the tools that the tests use: the aws CLI, boto3, moto, pytest, shellcheck.
#
#   venv.sh OUT REQUIREMENTS...      does nothing when OUT is up to date
set -euo pipefail

out=${1:?"usage: venv.sh OUT REQUIREMENTS..."}
shift

say() { printf 'python tools: %s\n' "$*" >&2; }

mkdir -p "$(dirname "$out")"
out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
# The folder's own name counts: the scripts in it begin with its path.
wanted=$(cat "$@" <(python3 --version) <(printf '%s' "$out") | cksum)
stamp=$out/stamp

if [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && "$out/bin/python3" -c '' 2>/dev/null; then
  exit 0
fi

say "installing the aws CLI, boto3, moto and pytest into target/venv (1 to 2 minutes, once)"
started=$(date +%s)
rm -rf "$out"
python3 -m venv "$out"
arguments=()
for file in "$@"; do arguments+=(--requirement "$file"); done
"$out/bin/python3" -m pip install --quiet --disable-pip-version-check "${arguments[@]}"
printf '%s' "$wanted" >"$stamp"
say "installed in $(($(date +%s) - started)) s"
