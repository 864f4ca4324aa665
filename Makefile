# The few commands one needs; CMakeLists.txt and CMakePresets.json do the work.
#
#   make             build/molt
#   make quickstart  installs what is missing, builds, fine-tunes a small model by several methods and compares them
#   make test        installs what is missing, builds, runs all tests
#   make asan        the tests under the address and undefined-behaviour sanitizers
#   make amx         the tests with Intel's matrix unit emulated, for machines that have AVX-512 and no such unit
#   make torture     the long robustness tests: kills the program 200 times and resumes it, lines of 100 MB
#   make fuzz        feeds every reader with mutated files, FUZZ_SECONDS=60 each (FUZZ=safetensors: only that one)
#   make bad-inputs  runs every kind of bad input and writes down the line each gets, in docs/robustness.md
#   make bench       builds the benches in build/bench/
#   make arm         cross-compiles for 64-bit Arm and runs the tests under qemu (docs/building.md)
#   make format      clang-format 14 on every source
#   make clean
#
# More for cmake's configure step goes into CMAKE_FLAGS, as in make CMAKE_FLAGS=-DMOLT_WERROR=ON.

CMAKE_FLAGS ?=
SOURCES = $(shell find molt tests bench examples -name '*.h' -o -name '*.cc')
CLANG_FORMAT ?= $(shell command -v clang-format-14 || echo clang-format)
configure = cmake --log-level=WARNING --preset

.PHONY: all quickstart test asan amx torture fuzz bad-inputs bench arm format check-format clean
.NOTPARALLEL:

all:
	$(configure) release $(CMAKE_FLAGS)
	cmake --build build --target molt

quickstart:
	scripts/install-deps.sh
	$(configure) release $(CMAKE_FLAGS)
	cmake --build build --target molt
	build/molt compare examples/quickstart.yaml

test:
	scripts/install-deps.sh test
	$(configure) release -DMOLT_TESTS=ON $(CMAKE_FLAGS)
	cmake --build build
	ctest --test-dir build --output-on-failure

asan:
	scripts/install-deps.sh test
	$(configure) asan -DMOLT_TESTS=ON -DMOLT_BENCH=OFF $(CMAKE_FLAGS)
	cmake --build build-asan
	ctest --test-dir build-asan --output-on-failure

amx:
	scripts/install-deps.sh test
	$(configure) amx -DMOLT_TESTS=ON $(CMAKE_FLAGS)
	cmake --build build-amx
	ctest --test-dir build-amx --output-on-failure

TORTURE_KILLS ?= 200
torture:
	scripts/install-deps.sh test
	$(configure) release -DMOLT_TESTS=ON $(CMAKE_FLAGS)
	cmake --build build --target molt robustness_test
	MOLT_TORTURE_KILLS=$(TORTURE_KILLS) build/tests/robustness_test

FUZZ_SECONDS ?= 60
FUZZ ?=
fuzz:
	scripts/install-deps.sh test fuzz
	$(configure) fuzz -DMOLT_TESTS=ON $(CMAKE_FLAGS)
	cmake --build build-fuzz --target fuzzers
	scripts/fuzz.sh build-fuzz/tests/fuzz $(FUZZ_SECONDS) $(FUZZ)

bad-inputs:
	scripts/install-deps.sh test
	$(configure) release -DMOLT_TESTS=ON $(CMAKE_FLAGS)
	cmake --build build --target molt cli_test
	MOLT_WRITE_LINES=1 build/tests/cli_test --gtest_filter='*BadInput*'

bench:
	scripts/install-deps.sh bench
	$(configure) release -DMOLT_BENCH=ON $(CMAKE_FLAGS)
	cmake --build build --target bench/all

arm:
	scripts/arm.sh

format:
	@$(CLANG_FORMAT) -i $(SOURCES)

check-format:
	@$(CLANG_FORMAT) --dry-run -Werror $(SOURCES)

clean:
	rm -rf build build-asan build-arm build-dev build-fuzz
