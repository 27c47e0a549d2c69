# Everything here sets up what it needs: apt packages by name (sudo only when not root), nats-server into .tools.
# A machine with Rust, Python and apt is enough.

CARGO ?= cargo
SHARED ?= ../shared
FARMER = target/debug/autonomys-farmer
# All tests are built once, with the kernels on the CPU: what is built by other words than these is built again.
SHIM = --features farmer/kernel-shim
# Modules of consensus with unsafe code, and those that stand on it.
UNSAFE_MODULES = simd lanes audit pos:: field:: bls:: erasure::

.PHONY: build dev test unit foul-days busy lint loom asan conformance kernels kernels-check kernels-test kernels-races kernels-long \
	cache-figures disk-figures gpu-bundle gpu-check soak-control setup clean

build: setup
	$(CARGO) build --release --locked

## A whole cluster in one process farms until ten solutions are accepted: on two cores some three minutes after the build.
dev: build
	target/release/autonomys-farmer dev --until-solutions 10

## All tests: style, unit and integration tests with a real nats-server, model checking, the GPU's kernels (on the CPU, and their PTX), golden vectors.
test: setup lint unit
	scripts/beside "$(MAKE) foul-days" "$(MAKE) busy"

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --workspace $(SHIM) --all-targets -- -D warnings
	$(CARGO) clippy --locked --workspace $(SHIM) --test foul_days -- -D warnings

unit:
	NATS_SERVER=$$(scripts/nats-server.sh) $(CARGO) test --locked --workspace $(SHIM)

## Clusters of real processes on days on which servers, stores, nodes and roles die: seven minutes, nearly all of them spent waiting.
foul-days:
	NATS_SERVER=$$(scripts/nats-server.sh) $(CARGO) test --locked --workspace $(SHIM) --test foul_days

## What needs the processors alone.
busy: loom kernels-check kernels-test kernels-races conformance

## The lock-free parts under every interleaving that loom finds.
loom:
	RUSTFLAGS="--cfg loom" $(CARGO) test --locked -p engine --lib --release --target-dir target/loom

## Unsafe code of consensus at every CPU level of the machine under AddressSanitizer; needs a nightly compiler (rustup toolchain install
## nightly --profile minimal). Half a minute after the build.
asan:
	RUSTFLAGS=-Zsanitizer=address $(CARGO) +nightly test --locked -p consensus --lib --target x86_64-unknown-linux-gnu \
		--target-dir target/asan -- $(UNSAFE_MODULES)

## The network's golden vectors, which are not part of a clone: all of them at the best CPU level of the machine, those that its
## instructions decide at each of the others, and those that kernels decide by the kernels.
conformance:
	@if [ -d "$(SHARED)/vectors" ]; then \
		$(CARGO) test --locked --workspace $(SHIM) --no-run && \
		scripts/conformance.sh $(FARMER) "$(SHARED)/vectors" "$(SHARED)/kzg/eth-public-parameters.bin"; \
	else \
		echo "skipped: no golden vectors at $(SHARED)/vectors"; \
	fi

## The PTX of gpu/kernels with its figures and the tables in docs/GPU.md: after every change there. Fetches 65 MB from PyPI the first time; no GPU needed.
kernels:
	python3 scripts/kernels.py build

## That what is checked in is what the sources give, and that assemblers for seven generations of cards make something good of it; first, that
## these checks can fail. A minute on two cores.
kernels-check:
	cd scripts && python3 -B -X warn_default_encoding -W error::EncodingWarning -m unittest --buffer kernel_checks.test_checks
	python3 -X warn_default_encoding -W error::EncodingWarning scripts/kernels.py check

## What drives a CUDA driver, with a libcuda that stands for one. The kernels and all else that drives them are among the unit tests.
STAND_IN = $(CURDIR)/target/stand_in
kernels-test: $(STAND_IN)/libcuda.so.1
	rm -f $(STAND_IN)/log
	LD_LIBRARY_PATH=$(STAND_IN) STAND_IN_LOG=$(STAND_IN)/log $(CARGO) test --locked --workspace $(SHIM) --test cuda
	grep ', 0 objects left' $(STAND_IN)/log

$(STAND_IN)/libcuda.so.1: $(wildcard gpu/kernels/*.h gpu/kernels/*.cuh gpu/kernels/shim/* gpu/kernels/stand_in/*)
	@mkdir -p $(STAND_IN)
	$(CXX) -std=c++17 -O2 -g -fPIC -shared -fvisibility=hidden -Wall -Wextra -Wno-unknown-pragmas -Wno-parentheses -DFARMER_SHIM \
		$(wildcard gpu/kernels/stand_in/*.cpp gpu/kernels/shim/*.cpp) -o $@ -pthread -Wl,-soname,libcuda.so.1

## Races in the kernels, by ThreadSanitizer; first one that is there on purpose must be found. A minute on two cores.
RACES = $(CXX) -std=c++17 -g -Wall -Wextra -Wno-unknown-pragmas -Wno-parentheses -DFARMER_SHIM -DSIMT_TSAN=1
kernels-races:
	@mkdir -p target/races
	$(RACES) -O2 -c gpu/kernels/shim/simt.cpp -o target/races/simt.o
	$(RACES) -O1 -fsanitize=thread gpu/kernels/races.cpp gpu/kernels/shim/shim.cpp target/races/simt.o -o target/races/races -pthread
	TSAN_OPTIONS=exitcode=0 target/races/races

## 200 records at K = 17 and 10 at K = 20, each in an order of threads drawn from a seed: some four minutes on two cores.
kernels-long:
	KERNEL_TEST_RECORDS=200 $(CARGO) test --locked --workspace $(SHIM) --test kernels -- --nocapture any_order

## Ten minutes of controllers and nodes that die, one every 20 s: no solution may reach two nodes, and none may be lost but for a reason that is
## true. Two minutes of it are among the unit tests.
soak-control: setup
	NATS_SERVER=$$(scripts/nats-server.sh) SOAK_SECONDS=$${SOAK_SECONDS:-600} $(CARGO) test --locked --workspace $(SHIM) --test foul_days -- --nocapture \
		controllers_and_nodes_die

## What the caches of this machine give to a reader on it, beside its disk; needs fio and 2 GB at FIGURES. Two minutes after the build.
FIGURES ?= /var/tmp/autonomys-farmer-figures
cache-figures: build
	scripts/cache-figures target/release/autonomys-farmer $$(scripts/nats-server.sh) $(FIGURES)

## What audits get from the disk of FIGURES, beside fio, from memory, under writes and at 80 % for PACED_SECONDS; needs fio and 5 GB there. Four
## minutes after the build, and PACED_SECONDS, of which 600 are a fair trial.
PACED_SECONDS ?= 60
disk-figures: build
	$(CARGO) build --release --locked -p farmer --example sparse_farm
	scripts/disk-figures target/release/autonomys-farmer target/release/examples/sparse_farm $(FIGURES) $(PACED_SECONDS)

## A folder that checks and measures this build on a GPU host without Rust and network: copy .gpu there, run .gpu/check.
gpu-bundle: setup
	SHARED="$(SHARED)" scripts/gpu/bundle .gpu

## The same on this host's GPU, and GPU_CONCURRENCY once more by criterion, whose plot goes to benches/results.
gpu-check: gpu-bundle
	.gpu/check
	scripts/gpu/sweep

setup:
	@scripts/setup.sh

clean:
	$(CARGO) clean
	rm -rf .tools
