# make run    a demo on http://localhost:8080/ ; needs Go 1.26, nothing else
# make test   everything that is checked; installs what the tests need
# Both work from a fresh checkout. The other targets: setup, lint, build, client,
# client-package, test-engine, bench, bench-inject, bench-outbox, bench-store,
# bench-engine, chaos, chaos-nodes, fuzz.

# Without three storage drivers that Caddy's modules bring and nobody uses
# here, the binary is smaller and builds faster. Caddy works the same.
TAGS := nobadger,nomysql,nopgx
export GOFLAGS := -tags=$(TAGS) -buildvcs=false

# Its findings depend on the version, so that is fixed. It knows Go 1.26.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# go.mod asks for the lowest Caddy that passes; the tests run on this one too.
NEWEST_CADDY := v2.11.9

# How long each fuzz target runs: make fuzz FUZZTIME=10m
FUZZTIME ?= 30s
# What is measured: make bench BENCH=Writer; make bench-inject BENCH=full
BENCH ?= .

.PHONY: run build client client-package setup test test-newest test-engine lint bench bench-inject bench-outbox bench-store bench-engine chaos chaos-nodes fuzz bin/caddy

run: bin/caddy
	@scripts/run.sh bin/caddy Caddyfile.example

build: bin/caddy

bin/caddy:
	@mkdir -p bin
	go build -o $@ ./xcaddy

# Bundles the browser runtime anew, after its sources have changed. The tests
# check that it is what they give.
client:
	@scripts/setup.sh client
	cd client/build && GOFLAGS=-buildvcs=false go run .

# Makes client/dist/npm, the runtime as a package with React, for `npm pack`.
client-package:
	@scripts/setup.sh client
	cd client/build && GOFLAGS=-buildvcs=false go run . package

setup:
	@scripts/setup.sh

# A finding of lint does not keep the tests from running; it fails the target
# all the same. What Caddy keeps by default goes to .cache, not to your home.
test: setup
	@rm -rf .cache/test-data
	@failed=0; \
	$(MAKE) --no-print-directory lint || { failed=1; echo "lint failed, see above; the tests run all the same"; }; \
	echo "go test -race ./..."; \
	XDG_DATA_HOME="$(CURDIR)/.cache/test-data" go test -race -count=1 -timeout 45m ./... || failed=1; \
	$(MAKE) --no-print-directory test-newest || failed=1; \
	$(MAKE) --no-print-directory test-engine || failed=1; \
	exit $$failed

# What touches Caddy, on the newest Caddy. The browser runtime and what nodes
# share are the same on every one.
test-newest:
	@mkdir -p .cache
	@cp go.mod .cache/newest.mod && cp go.sum .cache/newest.sum
	go get -modfile=.cache/newest.mod github.com/caddyserver/caddy/v2@$(NEWEST_CADDY)
	@echo "go test ./caddymodule ./tests, with Caddy $(NEWEST_CADDY)"
	@XDG_DATA_HOME="$(CURDIR)/.cache/test-data" GOFLAGS="$(GOFLAGS) -modfile=$(CURDIR)/.cache/newest.mod -mod=mod" \
		go test -count=1 -timeout 30m -skip '^Test(Client|Package|Nodes|OneNode|Failover|NobodyIsAlone)' ./caddymodule ./tests

# The Tinybird project on a ClickHouse: a module of its own, so that the library
# is in nobody's Caddy. chdb-go panics at once where the library is missing.
test-engine:
	@echo "go test ./..., in tests/engine"
	@cd tests/engine && CHDB_LIB_PATH="$$PWD/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so" \
		go test -count=1 -timeout 20m ./...

lint: bin/caddy
	go vet ./...
	go run $(STATICCHECK) ./...
	cd tests/engine && go vet ./... && go run $(STATICCHECK) ./...
	cd client/build && go vet ./... && go run $(STATICCHECK) ./...
	@echo "gofmt -l"; unformatted=$$(gofmt -l .); \
	test -z "$$unformatted" || { echo "gofmt -w would change:"; echo "$$unformatted"; exit 1; }
	@echo "caddy fmt --diff Caddyfile.example"; changes=$$(bin/caddy fmt --diff Caddyfile.example 2>&1) || { echo "$$changes"; exit 1; }

# Benchmarks stand beside the code they measure; programs that measure a
# running Caddy are in tests/bench, each a main package that prints its table.
# Here they run for a short time.
bench:
	@scripts/setup.sh bench
	go test -run '^$$' -bench '$(BENCH)' -benchmem -timeout 60m ./...
	@for program in tests/bench/*/main.go; do \
		program=$${program%main.go}; \
		echo "BENCH=short go run ./$$program"; BENCH=short go run "./$$program" || exit 1; \
	done

# What a page costs, against the same Caddy without the module: about 6 minutes,
# with BENCH=full about 40. See docs/performance.md.
bench-inject:
	@scripts/setup.sh bench >&2
	@BENCH='$(filter-out .,$(BENCH))' go run ./tests/bench/inject

# What taking a row for good costs, beside the disk and a static answer: about
# 3 minutes. See docs/performance.md.
bench-outbox:
	@BENCH='$(filter-out .,$(BENCH))' go run ./tests/bench/outbox

# Claims a second at the stores, beside what the engines below can do: about 2
# minutes. See docs/performance.md.
bench-store:
	@scripts/setup.sh bench >&2
	@BENCH='$(filter-out .,$(BENCH))' go run ./tests/bench/store

# What the Tinybird project's endpoints cost where there is much, on a
# ClickHouse. See docs/tinybird-scale.md.
bench-engine:
	@scripts/setup.sh >&2
	@cd tests/engine && CHDB_LIB_PATH="$$PWD/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so" \
		BENCH='$(filter-out .,$(BENCH))' go run ./scale

# Kills a Caddy again and again while clients, disk, sink and configuration do
# their worst, and counts what is left: about 8 minutes. It prints a seed;
# CHAOS_SEED repeats a run's decisions, CHAOS_KILLS says how often.
CHAOS_KILLS ?= 200
chaos:
	CHAOS_KILLS='$(CHAOS_KILLS)' go test -count=1 -v -timeout 60m -run '^TestChaos$$' ./tests
	go test -count=1 -run 'PowerCuts|EveryDiskCall|StartsThat' ./sessionctx/outbox -crashes 3000

# Three nodes of one site, any request to any of them, while they are killed,
# stopped, reloaded, and keys are revoked: about 10 minutes. CHAOS_ROUNDS says how
# often, CHAOS_SEED repeats a run's decisions.
CHAOS_ROUNDS ?= 200
chaos-nodes:
	CHAOS_ROUNDS='$(CHAOS_ROUNDS)' go test -count=1 -v -timeout 60m -run '^TestNodesWalk$$' ./tests

fuzz:
	@scripts/fuzz.sh $(FUZZTIME)
