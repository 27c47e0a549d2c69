# Everything here sets up what it needs: apt packages by name (sudo only when not root), nats-server into .tools.
# A machine with Rust, Python and apt is enough.

CARGO ?= cargo
SHARED ?= ../shared
FARMER = target/debug/autonomys-farmer
CONFORMANCE = $(FARMER) util conformance "$(SHARED)/vectors" --kzg-parameters "$(SHARED)/kzg/eth-public-parameters.bin"
SUITES_OF_LEVELS = pos,erasure,kzg,sector
# Modules of consensus with unsafe code, and those that stand on it.
UNSAFE_MODULES = simd lanes audit pos:: field:: bls:: erasure::

.PHONY: build dev test unit lint loom asan conformance kernels kernels-check setup clean

build: setup
	$(CARGO) build --release --locked

## A whole cluster in one process farms until ten solutions are accepted: on two cores some three minutes after the build.
dev: build
	target/release/autonomys-farmer dev --until-solutions 10

## All tests: style, unit and integration tests with a real nats-server, model checking, the GPU kernels' PTX and figures, golden vectors.
test: setup lint unit loom kernels-check conformance

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

unit:
	NATS_SERVER=$$(scripts/nats-server.sh) $(CARGO) test --locked --workspace

## The lock-free parts under every interleaving that loom finds.
loom:
	RUSTFLAGS="--cfg loom" $(CARGO) test --locked -p engine --lib --release --target-dir target/loom

## Unsafe code of consensus at every CPU level of the machine under AddressSanitizer; needs a nightly compiler (rustup toolchain install
## nightly --profile minimal). Half a minute after the build.
asan:
	RUSTFLAGS=-Zsanitizer=address $(CARGO) +nightly test --locked -p consensus --lib --target x86_64-unknown-linux-gnu \
		--target-dir target/asan -- $(UNSAFE_MODULES)

## The network's golden vectors, which are not part of a clone: all of them at the best CPU level of the machine, and those that its
## instructions decide at each of the others.
conformance:
	@if [ -d "$(SHARED)/vectors" ]; then \
		$(CARGO) build --locked -p roles && \
		$(CONFORMANCE) && \
		for level in $$($(FARMER) util cpu-levels | head -n -1); do \
			$(CONFORMANCE) --cpu-level $$level --only $(SUITES_OF_LEVELS) || exit 1; \
		done; \
	else \
		echo "skipped: no golden vectors at $(SHARED)/vectors"; \
	fi

## The PTX of gpu/kernels with its figures and the tables in docs/GPU.md: after every change there. Fetches 65 MB from PyPI the first time; no GPU needed.
kernels:
	python3 scripts/kernels.py build

## That what is checked in is what the sources give, and that assemblers for seven generations of cards make something good of it; first, that
## these checks can fail. A minute on two cores.
kernels-check:
	cd scripts && python3 -B -m unittest --buffer kernel_checks.test_checks
	python3 scripts/kernels.py check

setup:
	@scripts/setup.sh

clean:
	$(CARGO) clean
	rm -rf .tools
