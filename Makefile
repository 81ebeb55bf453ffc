# The one entry point: `make` lists what there is. Everything that is made stays in the clone:
# private environments in .venv*/, Rust's output in target/, wheels in build/, fetched systems in .next/.

# Which interpreter: by default the newest of 3.13 … 3.10 that works here (tools/find-python).
ifndef PYTHON
PYTHON := $(shell tools/find-python 2>/dev/null)
endif
HOST ?= 127.0.0.1
PORT ?= 8080
APP ?= examples/webapp.py
# Test processes at a time.
JOBS ?= 2
# How long each fuzz target runs.
SECONDS ?= 660
# More words for pytest, for example: make test-python ARGS="tests/cli -x".
ARGS ?=

RELEASE := .venv
CHECKED ?= .venv-test
SANITIZED := .venv-asan
LLVM :=
# What is published: compiled with a profile of what the benchmarks do.
PUBLISHED := .venv-wheel
SOURCES := $(shell find crates python -name __pycache__ -prune -o -type f -print 2>/dev/null) \
	$(wildcard Cargo.toml Cargo.lock pyproject.toml rust-toolchain.toml)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' Makefile
	@echo "Settings: PYTHON=$(or $(PYTHON),(none found)) HOST=$(HOST) PORT=$(PORT) APP=$(APP) JOBS=$(JOBS) SECONDS=$(SECONDS)"

.PHONY: run
run: $(RELEASE)/.oxlip ## Build, then serve the example page, or any program: APP=path HOST= PORT=
	@HOST=$(HOST) PORT=$(PORT) exec $(RELEASE)/bin/python -m oxlip run $(APP) $(ARGS)

.PHONY: test
test: prerequisites test-rust test-loom test-python ## Every test: Rust, then Python

# What is missing for the last step is said before the first.
.PHONY: prerequisites
prerequisites:
	@tools/check-rust
	@tools/find-python $(PYTHON) >/dev/null

.PHONY: test-rust
test-rust: ## The crates' tests, with nextest where it is installed
	@tools/check-rust
	@if cargo nextest --version >/dev/null 2>&1; \
	then cargo nextest run --workspace; \
	else cargo test --workspace --tests --quiet; fi
	cargo test --workspace --doc --quiet

.PHONY: test-loom
test-loom: ## The way in from other threads, in every interleaving of at most three preemptions
	LOOM_MAX_PREEMPTIONS=3 RUSTFLAGS="--cfg loom" \
		cargo test --package oxlip-core --test loom_inbox --release --quiet --target-dir target/loom

.PHONY: test-miri
test-miri: nightly ## The core and the simulation under miri, if the nightly toolchain has it: half an hour
	@cargo +nightly miri --version >/dev/null 2>&1 \
		|| { echo "oxlip: miri is missing: rustup component add --toolchain nightly miri rust-src" >&2; exit 1; }
	MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=4 \
		cargo +nightly miri test --package oxlip-core --target-dir target/miri
	MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=4 \
		cargo +nightly miri test --package oxlip-driver --lib --test simulation --target-dir target/miri

.PHONY: test-python
test-python: $(CHECKED)/.oxlip ## The Python tests, on a build with assertions: ARGS="tests/cli -x"
	$(CHECKED)/bin/python -m pytest -n $(JOBS) $(ARGS)
	@# What concerns TLS once more, on the slower of its two codecs.
	@# (pytest's 5: ARGS has chosen tests, none of them of TLS.)
	OXLIP_TLS=object $(CHECKED)/bin/python -m pytest -n $(JOBS) -k "tls or ssl" $(ARGS) || test $$? = 5

.PHONY: soak
soak: $(CHECKED)/.oxlip ## The slow storms that `make test` leaves out
	@# One at a time: two would share the ports that they use up.
	@# pytest's own limit knows no marks, and ends the process: a storm may take longer.
	$(CHECKED)/bin/python -m pytest -n 1 -m soak -o faulthandler_timeout=1900 $(ARGS)

# Leaks are not looked for: Python has some of its own, and the tests count what is ours.
.PHONY: test-asan
test-asan: nightly $(SANITIZED)/.oxlip ## The Python tests under AddressSanitizer, where there is the nightly toolchain and gcc
	@rm -rf build/asan && mkdir -p build/asan
	@# Reports go to files: what a test process prints last is lost with it.
	LD_PRELOAD=$$(readlink -f $$(gcc -print-file-name=libasan.so)) PYTHONMALLOC=malloc OXLIP_TESTS_PATIENCE=6 \
		ASAN_OPTIONS=detect_leaks=0:log_path=$(CURDIR)/build/asan/report \
		$(SANITIZED)/bin/python -m pytest -n $(JOBS) --timeout 180 -o faulthandler_timeout=400 \
		$(or $(ARGS),tests/conformance tests/regressions tests/faults tests/cpython) || failed=1; \
	cat build/asan/report.* 2>/dev/null && failed=1; test -z "$$failed"

.PHONY: fuzz
fuzz: nightly ## Every fuzz target for SECONDS, where there is cargo-fuzz: see fuzz/
	@cargo fuzz --version >/dev/null 2>&1 \
		|| { echo "oxlip: cargo-fuzz is missing: cargo install cargo-fuzz" >&2; exit 1; }
	@# The code under test has no unsafe: without a sanitizer it is tried ten times as often.
	@for target in $$(cargo fuzz list); do \
		echo "$$target, for $(SECONDS) s"; \
		cargo +nightly fuzz run --sanitizer none $$target -- \
			-max_total_time=$(SECONDS) -len_control=10 -timeout=25 $(ARGS) || exit 1; \
	done

.PHONY: nightly
nightly:
	@RUSTUP_AUTO_INSTALL=0 rustc +nightly --version >/dev/null 2>&1 \
		|| { echo "oxlip: the nightly toolchain is missing: rustup toolchain install nightly" >&2; exit 1; }

.PHONY: test-pythons
test-pythons: ## The Python tests on every other interpreter of 3.10 … 3.12 that is here
	@failed=; for version in 3.10 3.11 3.12; do \
		python=$$(tools/find-python $$version 2>/dev/null) || { echo "Python $$version: not here"; continue; }; \
		echo "Python $$version"; \
		$(MAKE) --no-print-directory test-python PYTHON=$$python CHECKED=.venv-test-$$version \
			CARGO_TARGET_DIR=$(CURDIR)/target/python-$$version || failed="$$failed $$version"; \
	done; \
	if [ -n "$$failed" ]; then echo "oxlip: the tests fail on Python$$failed" >&2; exit 1; fi

.PHONY: test-next
test-next: ## The Python tests on 3.14 and 3.15, which come from Debian sid (root, network, 1 GB in .next/)
	@failed=; for version in 3.14 3.15; do \
		tools/next-python $$version make --no-print-directory test-python CHECKED=.venv-test-$$version \
			CARGO_TARGET_DIR=/oxlip/target/python-$$version JOBS=$(JOBS) ARGS='$(ARGS)' || failed="$$failed $$version"; \
	done; \
	if [ -n "$$failed" ]; then echo "oxlip: the tests fail on Python$$failed" >&2; exit 1; fi

# The clone's files are read over from the emulated machine, so everything is built before.
.PHONY: test-kernel-tls
test-kernel-tls: $(CHECKED)/.oxlip ## The tests of TLS with the kernel's, on Debian's kernel in an emulated machine (root, network)
	TIMEOUT=1800 tools/with-kernel env OXLIP_TESTS_KERNEL_TLS=1 OXLIP_TESTS_PATIENCE=3 \
		$(CHECKED)/bin/python -m pytest -p no:cacheprovider -n 2 -q -k 'epoll or io_uring' \
		tests/conformance/test_start_tls.py $(wildcard tests/conformance/test_tls_*.py) $(ARGS)

# No such Python need be here: PyO3 is told what it would be like (and knows none before 3.14).
.PHONY: check-free-threaded
check-free-threaded: ## Type-check for Pythons without a GIL, 3.14t and 3.15t
	@tools/check-rust
	@mkdir -p build
	@for version in 3.14 3.15; do \
		printf '%s\n' implementation=CPython version=$$version shared=true pointer_width=64 \
			build_flags=Py_GIL_DISABLED suppress_build_script_link_lines=true > build/python-$${version}t; \
		echo "Python $${version}t"; \
		PYO3_CONFIG_FILE=$(CURDIR)/build/python-$${version}t cargo clippy --workspace --quiet \
			--target-dir target/free-threaded -- -D warnings || exit; \
	done

.PHONY: lint
lint: lint-rust lint-python ## Format, lints, types, stubs and architecture: warnings are errors

.PHONY: lint-rust
lint-rust:
	@tools/check-rust
	@cargo metadata --locked --format-version 1 >/dev/null # Cargo.lock is complete
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	@# The fuzz targets are a workspace of their own; they are checked here, and linked by `make fuzz`.
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --manifest-path fuzz/Cargo.toml --locked --no-default-features --quiet -- -D warnings

.PHONY: lint-python
lint-python: $(CHECKED)/.oxlip
	$(CHECKED)/bin/ruff check
	$(CHECKED)/bin/ruff format --check
	$(CHECKED)/bin/mypy
	$(CHECKED)/bin/mypy examples/*.py
	$(CHECKED)/bin/python -m mypy.stubtest oxlip._native --mypy-config-file pyproject.toml
	$(CHECKED)/bin/python tests/architecture.py

.PHONY: format
format: $(CHECKED)/.requirements ## Rewrite the sources in the project's format
	cargo fmt --all
	cargo fmt --manifest-path fuzz/Cargo.toml
	$(CHECKED)/bin/ruff check --fix --quiet
	$(CHECKED)/bin/ruff format

.PHONY: bench
bench: $(PUBLISHED)/.oxlip ## Compare with asyncio, uvloop and others side by side (see benches/)
	$(PUBLISHED)/bin/python benches/run.py $(ARGS)

# The load generator is built here: what this system's C library links runs on a newer one too.
.PHONY: bench-next
bench-next: ## The same on 3.14, with zuvloop, on the Python that test-next fetches; into docs/bench/3.14
	@tools/check-rust
	CARGO_TARGET_DIR=$(CURDIR)/target cargo build --release --quiet --package oxlip-load
	tools/next-python 3.14 sh -c 'tools/find-llvm 2>/dev/null || apt-get install --quiet --yes --no-install-recommends llvm'
	tools/next-python 3.14 make --no-print-directory bench PUBLISHED=.venv-wheel-3.14 \
		CARGO_TARGET_DIR=/oxlip/target/python-3.14 ARGS='--client target/release $(ARGS)'

.PHONY: build
build: $(RELEASE)/.oxlip ## Build the wheel (build/wheels) and install it in .venv

.PHONY: wheel
wheel: $(PUBLISHED)/.oxlip ## The same as it is published, profile-guided (five minutes)

.PHONY: test-wheel
test-wheel: $(PUBLISHED)/.oxlip ## What a program sees of the loop, once more on that wheel
	$(PUBLISHED)/bin/python -m pytest -n $(JOBS) $(or $(ARGS),tests/conformance tests/regressions --loops oxlip-epoll)

.PHONY: clean
clean: ## Remove what was built; .next/ and .venv-bench/, which were fetched, stay
	rm -rf .venv .venv-wheel* .venv-test* $(SANITIZED) build target fuzz/target
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis

# An environment with the development tools; the first thing a fresh clone does.
%/.requirements: requirements-dev.txt
	@tools/check-rust
	@tools/find-python $(PYTHON) >/dev/null
	@echo "Installing the development tools in $* ($(PYTHON))"
	@test -x $*/bin/pip || $(PYTHON) -m venv --clear $*
	@$*/bin/pip install --quiet --requirement requirements-dev.txt
	@touch $@

# The extension is installed as users get it, from a wheel, so that two builds can stand side by
# side: the release in .venv, and for the tests one that is quick to build and checks itself.
$(RELEASE)/.oxlip $(PUBLISHED)/.oxlip: PROFILE = release
$(PUBLISHED)/.oxlip: MATURIN = --pgo
# Where maturin finds llvm-profdata; asked by the recipe only.
$(PUBLISHED)/.oxlip: LLVM = $$(tools/find-llvm):
$(CHECKED)/.oxlip $(SANITIZED)/.oxlip: PROFILE = dev
$(SANITIZED)/.oxlip: export RUSTFLAGS = -Zsanitizer=address
$(SANITIZED)/.oxlip: export RUSTUP_TOOLCHAIN = nightly
$(SANITIZED)/.oxlip: export CARGO_TARGET_DIR = $(CURDIR)/target/asan
# With a target of its own the flags are not those of build scripts and macros; the reports need names.
$(SANITIZED)/.oxlip: MATURIN = --target $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p') --strip false
%/.oxlip: %/.requirements $(SOURCES)
	@tools/check-rust
	@case "$(MATURIN)" in *--pgo*) tools/find-llvm >/dev/null;; esac
	@echo "Building oxlip in $* ($(PROFILE))"
	@rm -rf build/wheels/$*
	@PATH="$(LLVM)$$PATH" $*/bin/maturin build --quiet --profile $(PROFILE) $(MATURIN) --compatibility linux \
		--interpreter $*/bin/python --out build/wheels/$*
	@$*/bin/pip install --quiet --force-reinstall --no-deps build/wheels/$*/*.whl
	@touch $@
.SECONDARY:
