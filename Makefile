# What an engineer runs. `make` alone lists it. Everything is Go from go.mod and
# tools/go.mod; nothing needs to be installed but Go, git, make (and a C
# compiler for the race detector).

TOOL      := go tool -modfile=tools/go.mod
GOTEST    ?= go test
TESTFLAGS ?= -timeout 18m

# The program is built with the profile beside its main (cmd/tributary/default.pgo); with
# the race detector everything would only be built twice.
PGO_OFF   := -pgo=off
FUZZTIME  ?= 10s
ARGS      ?=

# The race detector needs cgo. Without a C compiler `go env` answers 0.
HAVE_CC := $(shell [ "$$(go env CGO_ENABLED)" = 1 ] && command -v $$(go env CC) >/dev/null 2>&1 && echo yes)
RACE    := $(if $(HAVE_CC),-race)

GO_FILES = git ls-files -co --exclude-standard -- '*.go' ':!*.pb.go' ':!*.pb.gw.go'

.DEFAULT_GOAL := help
.PHONY: help run build test lint vuln proto proto-check bench pgo fuzz corpus example

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## serve on the usual ports, open to everybody on this machine, data in ./data
	go run ./cmd/tributary serve --data data --open $(ARGS)

build: ## bin/tributary
	go build -trimpath -o bin/tributary ./cmd/tributary

test: ## every test, with the race detector; peers found on this machine are used
	@[ -n "$(RACE)" ] || echo "WARNING: no C compiler: testing WITHOUT the race detector" >&2
	$(GOTEST) $(RACE) $(PGO_OFF) $(TESTFLAGS) ./...

lint: ## gofmt, go vet, staticcheck, the layers and the shape of the files
	@bad="$$($(GO_FILES) | xargs gofmt -l)"; [ -z "$$bad" ] || { echo "gofmt -w these:" >&2; echo "$$bad" >&2; exit 1; }
	go mod tidy -diff
	go vet ./...
	$(TOOL) staticcheck ./...
	go test -count=1 ./internal/layertest

vuln: ## known vulnerabilities in what we call; fails when the database is out of reach
	@tools/vuln.sh

proto: ## generate the Go and the OpenAPI document of proto/
	@tools/proto.sh

proto-check: ## fail when proto/ breaks its rules or what is committed is not what it generates
	@tools/proto-check.sh

example: ## docs/tributary.example.yaml, after an option was added or changed
	go run ./cmd/tributary config example > docs/tributary.example.yaml.new && mv docs/tributary.example.yaml.new docs/tributary.example.yaml

bench: ## the load generator, on this machine: ARGS='--help' says what it can do
	go run ./cmd/tributary bench $(ARGS)

pgo: ## cmd/tributary/default.pgo, after the code on a message's way has changed
	@tools/pgo.sh

fuzz: ## every fuzz target for FUZZTIME (10s) each
	@tools/fuzz.sh $(FUZZTIME)

corpus: ## fuzz, and keep the few inputs that reach new code: ARGS='-for 1m normalize:FuzzCBOR'
	go run -C tools ./corpus $(ARGS)
