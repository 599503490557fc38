# What a person types here. `make` alone explains itself.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# One folder for all that is built. The tests look for their programs there.
TARGET := target
export CARGO_TARGET_DIR := $(CURDIR)/$(TARGET)
CONTROL_PLANE := $(TARGET)/control-plane
VENV := $(TARGET)/venv
CONTROLLER := $(TARGET)/debug/instance-role-controller
TOOLS := $(TARGET)/tools
REQUIREMENTS := hack/requirements.txt tests/ec2-sandbox/facts/requirements.txt

# Always the whole workspace with all targets: cargo then chooses the same features for every command, and builds
# aws-sdk-ec2 (4 minutes, 8 GB of memory) once. A plain `cargo build` leaves out what only tests need of tokio, and
# would build 43 of the 378 units a second time.
EVERYTHING := --workspace --all-targets

# The end-to-end scenarios mostly wait, but for those that kill a controller two hundred times: more at a time on two cores
# only makes all of them slow.
export RUST_TEST_THREADS ?= 8

# Words to choose tests by: `make e2e T=replace`
T ?=

.PHONY: help
help: ## This list
	@printf 'usage: make TARGET\n\n'
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | \
	  while IFS=$$'\t' read -r name text; do printf '  %-15s %s\n' "$$name" "$$text"; done
	@printf '\nneeds: Rust, Go, Python 3 and a C compiler; everything else is built or installed under $(TARGET)/\n'
	@printf 'first time on a machine: about 20 minutes, most of it the AWS SDK and Kubernetes; then seconds\n'

# --- building

.PHONY: build
build: need-rust ## Build the controller and all its tests
	@compgen -G '$(TARGET)/debug/deps/libaws_sdk_ec2-*.rlib' >/dev/null || \
	  printf '\n== building; aws-sdk-ec2 alone takes 4 minutes and 8 GB of memory, once\n'
	@cargo build $(EVERYTHING)

.PHONY: control-plane
control-plane: need-go ## Build etcd, kube-apiserver and kubectl (4 minutes, once)
	@tests/control-plane/build.sh $(CONTROL_PLANE)

.PHONY: venv
venv: need-python ## Install the aws CLI, boto3, moto and pytest under target/
	@hack/venv.sh $(VENV) $(REQUIREMENTS)

.PHONY: tools
tools: need-go ## Build helm, promtool, the judge of health and of the dashboard (3 minutes, once)
	@hack/go-tools.sh $(TOOLS)

.PHONY: crds
crds: build ## Write crds/ anew from src/api
	@$(CONTROLLER) crds --output-dir crds
	@hack/chart-files.sh

.PHONY: chart
chart: tools ## Bring what the chart copies from elsewhere up to date, and lint it
	@hack/chart-files.sh
	@$(TOOLS)/bin/helm lint --strict deploy/helm/instance-role-controller

.PHONY: docs
docs: need-rust ## Build docs/ as a book in target/book (mdBook itself: 3 to 8 minutes, once)
	@hack/mdbook.sh $(TOOLS)
	@$(TOOLS)/bin/mdbook build docs
	@printf 'the book: %s/target/book/index.html\n' "$(CURDIR)"

# --- checking

.PHONY: test
test: need-rust need-go need-python control-plane tools venv lint supply-chain crds-check rules-test cargo-test sandbox-facts ## Everything that must be green

.PHONY: fmt
fmt: need-rust ## Format all Rust files
	@cargo fmt --all

.PHONY: lint
lint: need-rust venv ## Formatting, clippy with warnings denied, shell scripts
	@printf '\n== formatting\n'
	@cargo fmt --all --check || { printf 'some files are not formatted: `make fmt`\n' >&2; exit 1; }
	@printf '\n== shell scripts\n'
	@find . -path ./$(TARGET) -prune -o -name '*.sh' -print0 | xargs -0 $(VENV)/bin/shellcheck .ci/run
	@printf '\n== clippy\n'
	@cargo clippy $(EVERYTHING) -- --deny warnings

# The database of advisories (the one of cargo audit) lives in a Git repository, so that looking into it needs the
# network; this does not.
.PHONY: supply-chain
supply-chain: need-rust ## Licences, banned crates and sources of all dependencies (deny.toml)
	@hack/cargo-deny.sh $(TOOLS)
	@printf '\n== supply chain: licences, bans, sources\n'
	@$(TOOLS)/bin/cargo-deny --log-level error check --hide-inclusion-graph licenses bans sources
	@printf 'not looked at here: known vulnerabilities; with the network, `make advisories`\n'

.PHONY: advisories
advisories: need-rust ## Known vulnerabilities, withdrawn and abandoned crates (needs the network)
	@hack/cargo-deny.sh $(TOOLS)
	@printf '\n== supply chain: advisories\n'
	@$(TOOLS)/bin/cargo-deny --log-level error check advisories

.PHONY: crds-check
crds-check: build
	@printf '\n== crds/ is what the program prints\n'
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(CONTROLLER) crds --output-dir "$$fresh"; \
	diff --recursive --unified --exclude=kustomization.yaml crds "$$fresh" || \
	  { printf 'crds/ differs from src/api: `make crds` writes it anew\n' >&2; exit 1; }

.PHONY: rules-test
rules-test: tools ## Prometheus' own unit tests of the shipped alerts
	@printf '\n== alerts\n'
	@$(TOOLS)/bin/promtool check rules --lint=all deploy/monitoring/prometheus-rules.yaml
	@$(TOOLS)/bin/promtool test rules tests/monitoring/*.test.yaml

.PHONY: cargo-test
cargo-test: build control-plane tools venv
	@printf '\n== unit, property and end-to-end tests\n'
	@rm -rf $(TARGET)/seen
	@cargo test --workspace --no-fail-fast -- $(T)

.PHONY: unit
unit: need-rust ## Only the unit tests; T=WORD chooses by name
	@cargo test --workspace --lib --bins -- $(T)

# The searches use two threads themselves. A counterexample is told whatever happens.
.PHONY: model
model: need-rust ## The model check alone, small; DEPTH=2 and more for bigger ones, SEED=N for the same conformance run
	@printf '\n== model check (docs/model.md)\n'
	@cargo test --workspace --lib -- --nocapture --test-threads 1 controller::model

# Runs of one minute each, until the time is up; the first seed is that of the clock, unless SEED names it.
.PHONY: storm
storm: build control-plane ## Everything that may happen, at random: HOURS=1 for many, SEED=N for the one from N again (docs/storms.md)
	@HOURS=$(HOURS) SEED=$(SEED) BLOWS=$(BLOWS) $(TARGET)/debug/storm

.PHONY: e2e
e2e: build control-plane tools venv ## Only the tests against a real API server; T=WORD chooses by name
	@rm -rf $(TARGET)/seen
	@cargo test --workspace --no-fail-fast --test '*' -- $(T)

.PHONY: health-test
health-test: build tools ## Only what kstatus, Flux and Argo CD say of bindings in every state
	@cargo test --package instance-role-controller --test health

.PHONY: sandbox-facts
sandbox-facts: build venv ## The EC2 sandbox against what AWS was seen to do
	@printf '\n== the EC2 sandbox against its facts\n'
	@EC2_SANDBOX_BIN=$(CARGO_TARGET_DIR)/debug/ec2-sandbox PYTHONDONTWRITEBYTECODE=1 \
	  $(VENV)/bin/python3 -m pytest -q -p no:cacheprovider tests/ec2-sandbox/facts

# --- showing

.PHONY: demo
demo: build control-plane venv ## See it work, from nothing; KEEP=1 leaves it running for you to try
	@KEEP=$(KEEP) $(TARGET)/debug/demo

.PHONY: bench
bench: need-rust control-plane venv ## Measure it; F="bulk large" chooses parts (optimised build: 7 minutes, once)
	@printf '\n== building with optimisation\n'
	@cargo build --release --workspace --bins
	@$(TARGET)/release/bench $(F)

.PHONY: bench-docs
bench-docs: need-rust ## The last figures of `make bench` into docs/benchmarks.md
	@$(TARGET)/release/bench docs

# --- what a machine must have

.PHONY: need-rust need-go need-python
need-rust need-go need-python: need-%:
	@hack/need.sh $*
