#!/usr/bin/env bash
# Looks whether this machine has what is needed, and says what to install where it has not.
#
#   need.sh rust go python      any of them
set -euo pipefail

missing=0

miss() {
  printf 'needs %s\n' "$*" >&2
  missing=1
}

# at_least HAVE WANT: whether version HAVE is WANT or newer.
at_least() {
  [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]
}

need_rust() {
  local want have
  want=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$(dirname "$0")/../Cargo.toml" | head -n 1)
  if ! command -v cargo >/dev/null; then
    miss "Rust $want or newer, and there is no \`cargo\` in PATH: rustup installs it"
    return
  fi
  have=$(rustc --version | cut -d ' ' -f 2)
  at_least "$have" "$want" || miss "Rust $want or newer, and \`rustc\` is $have: \`rustup update\`"
  cargo fmt --version >/dev/null 2>&1 || miss "rustfmt: \`rustup component add rustfmt\`"
  cargo clippy --version >/dev/null 2>&1 || miss "clippy: \`rustup component add clippy\`"
  command -v cc >/dev/null || miss "a C compiler (for the linker and for aws-lc): install gcc or clang"
}

need_go() {
  if [[ -n ${KUBEBUILDER_ASSETS:-} ]]; then return; fi
  if ! command -v go >/dev/null; then
    miss "Go 1.26 or newer (builds etcd, kube-apiserver and kubectl), and there is no \`go\` in PATH." \
      "Install it, or set KUBEBUILDER_ASSETS to a folder that holds the three programs"
    return
  fi
  # An older Go fetches the one that go.mod names, unless GOTOOLCHAIN forbids it: build.sh then says so.
  at_least "$(GOTOOLCHAIN=local go env GOVERSION | sed 's/^go//')" 1.21 ||
    miss "Go 1.26 or newer, and \`go\` is $(GOTOOLCHAIN=local go env GOVERSION)"
}

need_python() {
  if ! command -v python3 >/dev/null; then
    miss "Python 3.10 or newer (for the aws CLI, boto3, moto), and there is no \`python3\` in PATH"
    return
  fi
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    miss "Python 3.10 or newer, and \`python3\` is $(python3 --version)"
  python3 -c 'import venv, ensurepip' 2>/dev/null ||
    miss "Python's venv module: on Debian and Ubuntu \`apt-get install python3-venv\`"
}

for tool in "$@"; do
  case $tool in
    rust) need_rust ;;
    go) need_go ;;
    python) need_python ;;
    *) miss "a known word: rust, go or python, not $tool" ;;
  esac
done
exit "$missing"
