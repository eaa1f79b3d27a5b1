# muster: `make run` brings it up on this host, `make test` runs every test.
.PHONY: help run ha test check bench soak coverage docs fmt build deps
BUILD ?= build
PROGRAMS := muster-control muster-agent musterctl

deps:            ## the Debian packages that building and testing need
	@scripts/install-deps test

help:            ## what there is to make
	@grep -hE '^[a-z-]+: *.*##' $(MAKEFILE_LIST) | awk -F':.*## *' '{printf "  make %-10s %s\n", $$1, $$2}'

run:             ## control plane and agent of this host, with real checks, live; Ctrl-C ends it
	@scripts/run

ha:              ## replicas on PostgreSQL and Redis, highly available, on this machine: deploy/ha/README.md
	@scripts/install-deps ha
	@scripts/build $(BUILD) $(PROGRAMS)
	@deploy/ha/ha up --bin $(BUILD)/bin
	@echo "next: deploy/ha/ha kill primary, deploy/ha/ha status; deploy/ha/ha down ends it" >&2

test:            ## every test
	@scripts/install-deps test
	@scripts/build $(BUILD)
	@ctest --test-dir $(BUILD) --output-on-failure -j 2 --no-tests=error

check:           ## format, layers, clang's thread safety, address and thread sanitizers
	@scripts/install-deps check
	@scripts/check

bench:           ## measures, next to the machine's limits
	@scripts/install-deps test
	@scripts/bench

soak:            ## the long proofs, at full count
	@scripts/install-deps test
	@scripts/soak

coverage:        ## line coverage, in all and for each folder that has a bound
	@scripts/install-deps check
	@scripts/coverage

build:           ## programs into build/bin
	@scripts/install-deps build
	@scripts/build $(BUILD) $(PROGRAMS)

docs:            ## the reference pages, from the protocol's own comments
	@scripts/gen-reference

fmt:             ## clang-format over the sources
	@git ls-files '*.h' '*.cc' | xargs clang-format-14 -i
