# The habits of this repository; CI calls only these. Prerequisites: Debian 12, root, make, Rust, Go, Python 3.
#
# Everything slow (Cargo's target folder, Python environments, cluster programs, images) lives outside the
# checkout and survives it, so that a fresh clone is warm after the first run.

CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/azure-iot-hub-connector
export CARGO_TARGET_DIR ?= $(CACHE)/target
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

.PHONY: help
help: ## Shows what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Sets everything up and shows the main job on a real Kubernetes (KEEP=1 leaves it running)
	@tests/e2e/run demo

.PHONY: test
test: ## Everything CI runs: format, lints, unit and wire tests, stand-ins against the SDKs, scenarios
	@tests/e2e/run test

.PHONY: soak
soak: ## The long forms of the scenarios: minutes instead of seconds of each fault, 10,000 messages through a rolling restart
	@MODEL_RUNS=2000 cargo test -p connector --lib --locked model::
	@SOAK=1 API_SERVER=required cargo test -p operator --locked --test reconcile -- --test-threads 12 --skip n1_
	@# Ten thousand connectors, alone: no other test would keep its times beside them. With the program of the
	@# image, since memory is counted.
	@tests/programs
	@SOAK=1 OPERATOR=$(CACHE)/programs/current/azure-iot-hub-operator API_SERVER=required \
		cargo test -p operator --locked --test reconcile -- n1_ --nocapture
	@SOAK=1 MESSAGES=10000 tests/e2e/run scenarios -q -n 2 --dist loadgroup

.PHONY: bench
bench: ## Measures: sizes, time to ready, what an event, a command and the operator cost (QUICK=1: a run of each; SOAK=1: long forms)
	@tests/e2e/run bench

.PHONY: check
check: ## Format, lints, generated files
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: unit
unit: ## Unit, property and wire tests; the operator against an API server (after tests/cluster/build)
	@API_SERVER=no cargo test --workspace --locked --no-fail-fast
	@# They wait for a server most of the time, so there are more of them at a time than cores.
	@cargo test --workspace --locked --no-fail-fast --test reconcile -- --test-threads 12

.PHONY: crd
crd: ## Writes the CRD from the Rust types into crds/ and the chart
	BLESS=1 cargo test -q -p operator --test crd

.PHONY: images
images: ## Builds the images of operator, connector and stand-ins, without any registry
	@tests/images

.PHONY: cluster-up
cluster-up: ## Starts a real Kubernetes on this machine (CLUSTER=existing: uses the current context)
	@tests/cluster/up

.PHONY: cluster-down
cluster-down: ## Ends it
	@tests/cluster/down
