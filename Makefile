# A thin door to Meson and Ninja. `make help` lists the targets.

MESON  ?= /usr/bin/meson
PYTHON := /usr/bin/python3
BUILD  := build
PREFIX ?= /usr/local
DATA   ?= data
SEEDS  ?= 1000
JOBS   ?= $(shell nproc)

.DEFAULT_GOAL := all
.PHONY: all run test check nightly bench bench-brokers bench-outbox sim fmt fmt-check tidy demo install clean help deps

all: deps $(BUILD)/build.ninja ## build build/barid (gcc, optimised, with debug information)
	@ninja -C $(BUILD) -j $(JOBS) --quiet

deps:
	@tools/deps.sh build

# The unit tests need one more package, so they are left out until `make check` or `make test` asks for them.
$(BUILD)/build.ninja: | deps
	@CC=$${CC:-gcc} $(MESON) setup $(BUILD) -Dtests=false >/dev/null || { cat $(BUILD)/meson-logs/meson-log.txt; exit 1; }

run: all ## start a server on 127.0.0.1:8080 with its data in data/ (DATA=dir for another)
	@exec $(BUILD)/barid serve --data $(DATA)

test: ## everything: gcc, clang, sanitizers, simulator, fault tests, browser (installs what it needs)
	@tools/deps.sh test
	@$(PYTHON) tools/run_tests.py

check: ## the quick part: build, unit tests, structure, 20 simulator seeds; under two minutes
	@tools/deps.sh check
	@$(PYTHON) tools/run_tests.py check

nightly: all ## long: a thousand kill -9 under load, five thousand simulator seeds, fuzzing
	@tools/deps.sh test
	@BARID_KILL_CYCLES=1000 BARID=$(CURDIR)/$(BUILD)/barid $(PYTHON) -m pytest -q -s -p no:cacheprovider tests/faults/test_kill_cycles.py tests/faults/test_broker_kill_cycles.py
	@$(PYTHON) tools/run_tests.py --seeds 5000 sim
	@FUZZ_SECONDS=600 $(PYTHON) tools/run_tests.py fuzz

sim: all ## the simulator alone: make sim SEEDS=5000
	@tools/deps.sh check
	@$(PYTHON) tools/run_tests.py --seeds $(SEEDS) sim

bench: all ## measure complete journeys on this machine
	@$(BUILD)/barid bench journey

bench-brokers: ## RabbitMQ and barid under the same loads, in turn: about an hour on a quiet machine
	@tools/deps.sh bench
	@$(MAKE) --no-print-directory all
	@bench/side_by_side.py

bench-outbox: ## from PostgreSQL to Kafka and on: barid, Debezium, the ceilings; about an hour on a quiet machine
	@tools/deps.sh bench
	@$(MAKE) --no-print-directory all
	@bench/outbox/run.py

demo: all ## watch a text and a picture travel while the server is killed under them
	@$(PYTHON) tools/demo.py

fmt: ## format the C sources in place
	@git ls-files '*.c' '*.h' | xargs clang-format -i

fmt-check: ## tell which C sources are not formatted
	@git ls-files '*.c' '*.h' | xargs clang-format --dry-run -Werror

tidy: all ## clang-tidy over src/
	@run-clang-tidy -quiet -p $(BUILD) -j $(JOBS) '$(CURDIR)/src/.*\.c$$'

install: all ## copy barid, libbarid and the manual to /usr/local (DESTDIR and PREFIX as usual)
	install -Dm755 $(BUILD)/barid $(DESTDIR)$(PREFIX)/bin/barid
	install -Dm644 include/barid.h $(DESTDIR)$(PREFIX)/include/barid.h
	install -Dm644 -t $(DESTDIR)$(PREFIX)/lib $(BUILD)/src/lib/libbarid.a
	cp -d $(BUILD)/src/lib/libbarid.so $(BUILD)/src/lib/libbarid.so.0 $(BUILD)/src/lib/libbarid.so.0.*[0-9] $(DESTDIR)$(PREFIX)/lib/
	install -d $(DESTDIR)$(PREFIX)/lib/pkgconfig
	sed 's|^prefix=.*|prefix=$(PREFIX)|; s|^libdir=.*|libdir=$${prefix}/lib|' $(BUILD)/meson-private/barid.pc > $(DESTDIR)$(PREFIX)/lib/pkgconfig/barid.pc
	for page in $(wildcard docs/man/*.1); do install -Dm644 -t $(DESTDIR)$(PREFIX)/share/man/man1 $$page; done

clean: ## remove all build directories
	rm -rf $(BUILD) build-clang build-asan build-tsan

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
