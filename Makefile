# Every target does one thing and says so in `make help`. What a target needs it installs: Debian packages with apt (as
# root), and a few pinned tools into .tools.

LAB := tests/lab/lab

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: tools
tools: ## install what the other targets need
	deploy/install-tools

.PHONY: build
build: tools ## build everything for this machine, quickly
	cargo build --locked --workspace

.PHONY: packages
packages: tools ## build the two Debian packages into dist/
	deploy/build-packages

.PHONY: generate
generate: tools ## write the code that follows from proto/*.proto anew
	MUSTER_REGENERATE=1 cargo test --locked -p muster-proto --test generated

.PHONY: fmt
fmt: ## format the sources
	cargo fmt --all

.PHONY: lint
lint: tools ## formatting, clippy, banned crates and licences
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	.tools/bin/cargo-deny --locked check bans licenses sources

.PHONY: test
test: tools ## all tests but the lab's
	.tools/bin/cargo-nextest nextest run --locked --workspace

.PHONY: faults
faults: tools ## every fault at every point (as root); CELL='WORDS' chooses cells whose names hold the words
	cargo build --locked -p muster-faults
	target/debug/faults $(CELL)

.PHONY: bench
bench: packages ## bootstrap against the same steps one after another; 2,000 strangers at the coordinator's port
	tests/bench/run
	cargo test --locked --release -p muster-tests --test together flood -- --ignored --nocapture

.PHONY: demo
demo: packages ## today's Kubernetes on two machines, from nothing, on this machine (as root); ERA=manual: v1.20.2 on Docker
	tests/demo/run --era $(or $(ERA),today)

.PHONY: demo-down
demo-down: ## remove every trace of the demo
	$(LAB) down

.PHONY: e2e
e2e: packages ## the scenarios on real machines (as root)
	tests/e2e/run

.PHONY: e2e-all
e2e-all: packages ## also the scenarios that take long
	tests/e2e/run --all

.PHONY: lab-prepare
lab-prepare: tools ## build what the lab's machines are made of, once (half an hour)
	$(LAB) prepare

.PHONY: clean
clean: ## remove everything that was built, and the tools
	rm -rf target dist .tools
