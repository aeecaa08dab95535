# Set up, build, test and try Ebb. Every target installs what it needs first.
SHELL := /bin/sh
CACHE := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/ebb
BIN := .build/release
prefix ?= /usr
# What test-large runs besides the models of the other tests.
LARGE_MODELS := mpnet embeddinggemma qwen2 qwen2-1.5b

.PHONY: test-large fuzz asan tsan ubsan soak bench-fairness bench-contention bench-marks bench-scaling bench-tokenization static deb system-test install-files bench-smoke bench-quantizer test-arm setup build test lint run bench install clean

setup:
	@scripts/setup

build: setup
	swift build -c release

test: setup
	@scripts/fetch-model smollm2 qwen2 gemma3 minilm
	@scripts/tokenizer-references $(CACHE)
	@scripts/fetch-templates $(CACHE)
	swift build -c release --build-tests
	swift test -c release --skip-build --no-parallel

# The tests that need models of many hundred MB.
test-large: setup
	@scripts/fetch-model $(LARGE_MODELS)
	swift build -c release --build-tests
	EBB_TEST_LARGE=1 swift test -c release --skip-build --no-parallel --filter '$(or $(FILTER),[Ll]arge)'

test-arm: setup
	@scripts/test-arm

# libFuzzer over everything that reads outside data, SECONDS a target; see Tests/Fuzz.
fuzz: SECONDS ?= 60
fuzz: setup
	EBB_FUZZ=1 swift build -c release --scratch-path .build-fuzz --sanitize=fuzzer --sanitize=address --product ebb-fuzz \
	    -Xswiftc -sanitize-coverage=edge,trace-cmp,inline-8bit-counters,pc-table
	@scripts/fuzz .build-fuzz/release $(SECONDS)

# The tests under a sanitizer; FILTER names some of them (TARGET.SUITE|TARGET.SUITE).
asan: setup
	@scripts/fetch-model smollm2 qwen2 gemma3 minilm
	@scripts/tokenizer-references $(CACHE)
	@scripts/fetch-templates $(CACHE)
	@scripts/sanitize address '$(FILTER)'

tsan: setup
	@scripts/fetch-model smollm2 minilm
	@scripts/sanitize thread '$(or $(FILTER),ServiceTests.|GovernorTests.|EbbProtocolTests.)'

# Kernels and their comparison program.
ubsan:
	@scripts/sanitize undefined

# Clients that misbehave, MINUTES long, and what a daemon has left of them.
soak: MINUTES ?= 5
soak: build
	@scripts/fetch-model smollm2
	@Tests/Soak/run $(BIN) $(CACHE) $(MINUTES)

bench-fairness: build
	@scripts/fetch-model smollm2 minilm
	@Benchmarks/fairness $(BIN) $(CACHE)

bench-contention: build
	@scripts/fetch-model $(or $(MODELS),smollm2)
	@ISA=$(ISA) Benchmarks/contention $(BIN) $(CACHE)

# ISA=avx2 and the like hold Ebb and llama.cpp to an instruction set; lines go to docs/performance.md.
bench-marks: build
	@scripts/fetch-model $(or $(MODELS),smollm2 qwen2 gemma3)
	@ISA=$(ISA) Benchmarks/marks $(BIN) $(CACHE)

lint:
	swift format lint --strict --recursive --parallel Package.swift Sources Tests Examples

run: build
	@scripts/fetch-model smollm2
	@scripts/demo $(BIN) $(CACHE)

# Measures what is shipped: the static build.
bench: static
	@scripts/fetch-model smollm2 qwen2 gemma3 minilm
	@Benchmarks/compare .build-static/release $(CACHE)

# Text to tokens beside Hugging Face's tokenizers.
bench-tokenization: build
	@scripts/fetch-model smollm2 qwen2
	@scripts/tokenizer-references $(CACHE)
	@Benchmarks/corpora $(CACHE)
	@$(CACHE)/tokenizers/venv-0.22.1/bin/python Benchmarks/tokenization.py $(BIN)/ebbctl $(CACHE) $(CACHE)/tokenizers/bench.json

bench-scaling: build
	@scripts/fetch-model smollm2 qwen2 gemma3
	@for model in smollm2 qwen2 gemma3; do \
	    $(BIN)/ebbctl import $(CACHE)/models/$$model.gguf --name $$model --models $(CACHE)/bench --force > /dev/null; \
	done
	@python3 Benchmarks/scaling.py $(BIN)/ebbctl $(CACHE)/bench smollm2 qwen2 gemma3

bench-smoke: build
	@scripts/fetch-model minilm
	@python3 -m py_compile Benchmarks/*.py && rm -rf Benchmarks/__pycache__
	@$(BIN)/ebbctl bench --limits
	@TABLE=0 python3 Benchmarks/quantizer.py $(BIN)/ebbctl $(CACHE)/models/minilm Tests/ConversionTests/Reference/minilm.json

bench-quantizer: build
	@scripts/fetch-model minilm
	@python3 Benchmarks/quantizer.py $(BIN)/ebbctl $(CACHE)/models/minilm Tests/ConversionTests/Reference/minilm.json

# Without the Swift runtime as a dependency.
static: setup
	swift build -c release --static-swift-stdlib --scratch-path .build-static --product ebbd
	swift build -c release --static-swift-stdlib --scratch-path .build-static --product ebbctl

deb: static
	@scripts/make-deb .build-static/release .build-static

# Boots real systemd in virtual machines; see Tests/System.
system-test: deb
	@scripts/fetch-model smollm2 qwen2
	@Tests/System/run .build-static $(CACHE)

install: build install-files

install-files:
	install -Dm755 $(BIN)/ebbd $(DESTDIR)$(prefix)/bin/ebbd
	install -Dm755 $(BIN)/ebbctl $(DESTDIR)$(prefix)/bin/ebbctl
	install -Dm644 systemd/ebbd.service $(DESTDIR)$(prefix)/lib/systemd/system/ebbd.service
	install -Dm644 systemd/ebbd.socket $(DESTDIR)$(prefix)/lib/systemd/system/ebbd.socket
	install -Dm644 systemd/sysusers.conf $(DESTDIR)$(prefix)/lib/sysusers.d/ebb.conf
	install -Dm644 systemd/tmpfiles.conf $(DESTDIR)$(prefix)/lib/tmpfiles.d/ebb.conf

clean:
	rm -rf .build
