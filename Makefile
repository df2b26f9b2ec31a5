# make demo and make test do all their own set-up; what they fetch goes to
# TOCSIN_CACHE and is fetched once.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

export TOCSIN_CACHE ?= $(HOME)/.cache/tocsin
export GOFLAGS ?= -buildvcs=auto

GOFUMPT_VERSION       := v0.12.0
GOLANGCI_LINT_VERSION := v2.15.0
TOOLS         := $(TOCSIN_CACHE)/bin
GOFUMPT       := $(TOOLS)/gofumpt-$(GOFUMPT_VERSION)
GOLANGCI_LINT := $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: build
build: ## build bin/tocsin (static, no cgo)
	CGO_ENABLED=0 go build -trimpath -o bin/tocsin ./cmd/tocsin

.PHONY: demo
demo: build engine ## the whole pipeline on a simulated fleet, in one process
	bin/tocsin demo $(ARGS)

# What is concurrent runs under the race detector; the rest is single-threaded
# by design and many times slower under it.
RACE_PACKAGES := ./internal/kafka/... ./internal/lifecycle/... ./internal/telemetry/... ./internal/embedded/broker/... ./internal/identities/... ./internal/registry/... \
	./ingest/... ./correlate/... ./sinks/...

.PHONY: test
test: engine kafka moto mosquitto ## every test, on the real Kafka, ClickHouse engine and AWS APIs
	race=$$(go list $(RACE_PACKAGES)); \
	go test -timeout 9m $(TESTFLAGS) $$(go list ./... | grep -vxF "$$race"); \
	go test -race -timeout 9m $(TESTFLAGS) $$race

.PHONY: check
check: $(GOFUMPT) $(GOLANGCI_LINT) ## gofumpt, vet, golangci-lint
	@out=$$($(GOFUMPT) -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$')); \
	if [ -n "$$out" ]; then echo "not formatted (run: make fmt):"; echo "$$out"; exit 1; fi
	go vet ./...
	$(GOLANGCI_LINT) run --allow-parallel-runners ./...

.PHONY: fmt
fmt: $(GOFUMPT) ## format the code
	$(GOFUMPT) -w $$(git ls-files '*.go' | grep -v '\.pb\.go$$')

.PHONY: bench
bench: build engine ## the benchmarks against their bars; results in benchmarks/results
	go run ./benchmarks/bench $(ARGS)

RSIGMA := $(TOCSIN_CACHE)/peers/bin/rsigma

.PHONY: bench-peers
bench-peers: $(RSIGMA) ## matching beside other Sigma engines (needs SIGMA_CORPUS and, once, cargo)
	cd benchmarks/peers/go && go build -o $(TOCSIN_CACHE)/peers/bin/go-libraries .
	go run ./benchmarks/peers -rsigma $(RSIGMA) -go $(TOCSIN_CACHE)/peers/bin/go-libraries

$(RSIGMA):
	cargo install rsigma --version 0.23.0 --locked --root $(TOCSIN_CACHE)/peers

.PHONY: fuzz
FUZZTIME ?= 20s
fuzz: ## every fuzz test, FUZZTIME each
	@for pkg in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done

.PHONY: soak
SOAK_MINUTES ?= 10
soak: ## the correlator against its oracle, new seeds for SOAK_MINUTES
	@go test -c -o bin/correlate.test ./correlate; \
	end=$$(( $$(date +%s) + 60 * $(SOAK_MINUTES) )); \
	while [ $$(date +%s) -lt $$end ]; do \
	  (cd correlate && TOCSIN_CASES=50000 ../bin/correlate.test -test.run Random -test.timeout 30m); \
	done

.PHONY: chaos
CHAOS_SEED    ?= 0
CHAOS_MINUTES ?= 20
CHAOS_KILLS   ?= 110
chaos: engine kafka ## kill -9 of every part under load for CHAOS_MINUTES; nothing may be lost or be there twice
	go run ./benchmarks/chaos -seed $(CHAOS_SEED) -minutes $(CHAOS_MINUTES) -kills $(CHAOS_KILLS) $(ARGS)

.PHONY: vuln
vuln: ## known vulnerabilities (needs the vulnerability database, so a network)
	go run golang.org/x/vuln/cmd/govulncheck@latest ./...

.PHONY: outdated
outdated: ## direct dependencies that lag behind
	@go list -m -u -f '{{if and (not .Indirect) .Update}}{{.Path}} {{.Version}} -> {{.Update.Version}}{{end}}' all

.PHONY: proto
proto: ## regenerate schemas/eventpb (needs protoc and protoc-gen-go)
	protoc -I schemas --go_out=schemas/eventpb --go_opt=paths=source_relative schemas/event.proto schemas/match.proto

.PHONY: engine kafka moto mosquitto
engine: ## fetch the embedded ClickHouse engine
	@internal/embedded/fetch-chdb.sh
kafka: ## fetch Apache Kafka for the tests
	@internal/testkit/fetch-kafka.sh
moto: ## fetch moto (AWS APIs) for the tests
	@internal/testkit/fetch-moto.sh
mosquitto: ## fetch the MQTT broker for the tests
	@internal/testkit/fetch-mosquitto.sh

$(GOFUMPT):
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS) go install mvdan.cc/gofumpt@$(GOFUMPT_VERSION) && mv $(TOOLS)/gofumpt $@
$(GOLANGCI_LINT):
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION) && mv $(TOOLS)/golangci-lint $@
