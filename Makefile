# `make` lists the targets. CI runs `make test` and nothing else.
.DEFAULT_GOAL := help
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
# Each recipe is one shell: phases run in the order that is written down, also under `make -j`.
.NOTPARALLEL:

TAGS_ALL := integration,faultpoints,invariants,synctests
LINT     := go tool -modfile=tools/go.mod golangci-lint
SCRIPTS  := tools/scripts
ENGINE   := integration/images/engine.sh

# How long `make fuzz` runs each target, and what `make sim` and `make bench` are given.
FUZZTIME   ?= 30s
SIMFLAGS   ?=
BENCHFLAGS ?=
# The packages whose expected outputs `make golden` rewrites: every one that can, unless given.
PKG        ?= $$($(SCRIPTS)/packages.sh '"rewrite"|cockroachdb/datadriven')

CHECK_PHASES := fmt-check lint arch generate-clean unit examples sim-short

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##### running it

.PHONY: build container demo demo-wordcount bench bench-state
build: ## the static binary, in bin/
	CGO_ENABLED=0 go build -trimpath -tags timetzdata -o bin/ingestd ./cmd/ingestd

container: engine build ## the daemon's image ingestd:dev, from scratch
	rm -rf bin/container && mkdir -p bin/container/data && cp bin/ingestd deploy/container/Dockerfile bin/container/
	certificates=/etc/ssl/certs/ca-certificates.crt; [ ! -f $$certificates ] || cp $$certificates bin/container/
	DOCKER_BUILDKIT=0 docker build -q -t ingestd:dev bin/container 2>bin/container.log || { cat bin/container.log >&2; exit 1; }

demo: ## exactly once under SIGKILL, shown in a minute without any server
	go run ./cmd/ingestd demo

demo-wordcount: ## the same for keyed state: a kill at each step of a checkpoint
	go run ./cmd/ingestd demo wordcount

bench: engine images ## records/s, CPU and memory against real servers, as a table
	env $$($(ENGINE) env) go run ./integration/bench $(BENCHFLAGS)

bench-state: ## updates, checkpoints and restores of keyed state, as a table
	go run ./integration/statebench $(BENCHFLAGS)

##### proving it

.PHONY: test check integration test-faults sim fuzz vuln
test: ## check and integration, each phase timed; SKIP_DOCKER=1 leaves integration out
ifeq ($(SKIP_DOCKER),1)
	@$(SCRIPTS)/phases.sh test compiler $(CHECK_PHASES) state-crashes
	@echo 'integration: NOT RUN'
else
	@$(SCRIPTS)/phases.sh test engine compiler $(CHECK_PHASES) state-crashes images integration
endif

check: ## everything that needs no server
	@$(SCRIPTS)/phases.sh check compiler $(CHECK_PHASES)

integration: engine images ## real servers in containers, the daemon as a real process
	env $$($(ENGINE) env) go test -tags integration,faultpoints -count=1 -timeout 60m ./integration/...

test-faults: engine images ## the fault tests of `make integration` alone
	env $$($(ENGINE) env) go test -tags integration,faultpoints -count=1 -timeout 4h -run TestFaults ./integration/...

sim: ## whole pipelines in virtual time under faults (SIMFLAGS are passed to go test)
	@packages=$$($(SCRIPTS)/packages.sh '^func TestSim'); \
	if [ -n "$$packages" ]; then go test -tags synctests,invariants -count=1 -run '^TestSim' $$packages $(SIMFLAGS); \
	elif compgen -G 'pipeline/*.go' >/dev/null; then echo 'sim: package pipeline has no test named TestSim' >&2; exit 1; \
	else echo 'sim: package pipeline is not built yet'; fi

fuzz: ## each fuzz target for FUZZTIME
	@$(SCRIPTS)/fuzz.sh $(FUZZTIME)

vuln: ## known vulnerabilities in what is linked (needs the vulnerability database)
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

##### the phases of check

.PHONY: engine compiler fmt fmt-check lint arch generate-clean unit examples sim-short
engine: # a Docker engine that answers
	@$(ENGINE)

compiler: # the race detector needs a C compiler
	@$(SCRIPTS)/need.sh cc

fmt: ## format the tree
	$(LINT) fmt

fmt-check: ## the tree is formatted
	@$(LINT) fmt --diff || { echo 'fmt-check: run `make fmt`' >&2; exit 1; }

lint: ## golangci-lint, also over the files behind build tags
	$(LINT) config verify
	$(LINT) run
	$(LINT) run --build-tags $(TAGS_ALL)

arch: ## rules of the tree: imports, invariants, package docs
	go test -count=1 ./internal/arch

generate-clean: ## generated files are current
	@$(SCRIPTS)/generate-clean.sh

unit: ## every test without a server, with the race detector
	go test -race -tags invariants -timeout 8m ./...

examples: ## the module of examples/customstep: a daemon with one more step is built, tested and run
	cd examples/customstep && go vet ./... && go test -race -tags invariants -count=1 ./... && CGO_ENABLED=0 go build -trimpath -tags timetzdata -o ../../bin/customstep .
	bin/customstep validate -c examples/customstep/customstep.toml

sim-short: # a few seeds
	@$(MAKE) --no-print-directory sim SIMFLAGS=-short

.PHONY: state-crashes
state-crashes: # thousands of crashes of keyed state's local database; `make unit` has hundreds
	STATE_CRASHES=4000 go test -tags invariants -count=1 -timeout 10m -run TestDB_everyCrashLeadsToThePublishedState ./state/local

##### making what it needs

.PHONY: images generate golden
images: engine ## container images of the integration tests, pulled or built
	@integration/images/images.sh

generate: ## documents and code from their sources
	go generate ./...

golden: ## rewrite expected outputs (of PKG=./config only); commit one only if every changed line is understood
	@packages="$(PKG)"; \
	[ -n "$$packages" ] || { echo 'golden: no test of the tree can rewrite its expected output' >&2; exit 1; }; \
	go test -count=1 $$packages -args -rewrite
