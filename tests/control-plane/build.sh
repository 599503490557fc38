#!/usr/bin/env bash
# Builds etcd, kube-apiserver and kubectl from the modules in go.mod beside this file.
#
#   build.sh OUT      leaves the three programs in OUT/bin; does nothing when they are up to date
#
# Where KUBEBUILDER_ASSETS is set, the programs in that folder are used and nothing is built.
set -euo pipefail

out=${1:?"usage: build.sh OUT"}
here=$(cd "$(dirname "$0")" && pwd)
programs=(etcd kube-apiserver kubectl)

say() { printf 'control plane: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# Ends the script when the folder $1 lacks one of the programs.
require_programs() {
  local program
  for program in "${programs[@]}"; do
    [[ -x $1/$program ]] || fail "$2"
  done
}

# What the programs are made from: they are up to date while this stays the same.
fingerprint() {
  (cd "$here" && cat go.mod go.sum build.sh && go env GOVERSION GOOS GOARCH) | cksum
}

# Reads the output of `go build -v`, one package a line, and shows how far it is: in place on a
# terminal, every 30 seconds elsewhere. What is not a package name is a message and is passed on.
show_progress() {
  local about=$1 done=0 next=30 line
  SECONDS=0
  while IFS= read -r line; do
    if [[ $line == *[[:space:]]* || $line == "#"* ]]; then
      printf '%s\n' "$line" >&2
      continue
    fi
    done=$((done + 1))
    if [[ -t 2 ]]; then
      printf '\rcontrol plane: compiled %d of about %d packages, %d s ' "$done" "$about" "$SECONDS" >&2
    elif ((SECONDS >= next)); then
      say "compiled $done of about $about packages, $SECONDS s"
      next=$((SECONDS + 30))
    fi
  done
  [[ ! -t 2 ]] || printf '\n' >&2
}

if [[ -n ${KUBEBUILDER_ASSETS:-} ]]; then
  require_programs "$KUBEBUILDER_ASSETS" \
    "KUBEBUILDER_ASSETS is set to $KUBEBUILDER_ASSETS, but ${programs[*]} are not all there; mend or unset it"
  say "using the programs in $KUBEBUILDER_ASSETS (KUBEBUILDER_ASSETS)"
  exit 0
fi

command -v go >/dev/null || fail "needs Go 1.26 or newer to build ${programs[*]}, and there is no \`go\` in PATH"

export CGO_ENABLED=0 GOWORK=off GOFLAGS=-buildvcs=false
(cd "$here" && go env GOVERSION >/dev/null) ||
  fail "needs Go 1.26 or newer to build ${programs[*]}; the message above is from $(command -v go)"

mkdir -p "$out"
out=$(cd "$out" && pwd)
# One build at a time: a second `make` waits here and then finds the programs made.
exec 9>"$out/lock"
if command -v flock >/dev/null; then flock 9; fi

stamp=$out/stamp
wanted=$(fingerprint)
if [[ -f $stamp && $(<"$stamp") == "$wanted" ]]; then
  require_programs "$out/bin" "programs are missing in $out/bin; remove $out and run again"
  exit 0
fi

cd "$here"
say "fetching the sources of ${programs[*]} (about 150 Go modules, once per machine)"
about=$(go list -deps tool | wc -l)
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${version#v}"

say "building Kubernetes $version and etcd: 3 to 5 minutes on two cores, a few seconds from Go's cache"
flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags+=" -X $package.gitVersion=$version -X $package.gitMajor=$major -X $package.gitMinor=$minor"
  flags+=" -X $package.gitTreeState=clean"
done
fresh=$out/fresh
rm -rf "$fresh" && mkdir "$fresh"
started=$(date +%s)
go build -v -trimpath -ldflags "$flags" -o "$fresh/" tool 2>&1 | show_progress "$about"
mv "$fresh/server" "$fresh/etcd" # Go names a program after its package: etcd/server/v3
rm -rf "${out:?}/bin" && mv "$fresh" "$out/bin"
printf '%s' "$wanted" >"$stamp"
say "built in $(($(date +%s) - started)) s: $out/bin"
