# SPDX-License-Identifier: GPL-2.0
# The commands of the project; `make help` lists them. How the modules are built is in Kbuild.

MAKEFLAGS += --no-print-directory
FS ?= reflinkfs
.DEFAULT_GOAL := help

# Makes QUICK=0 and QUICK= the same.
quick = $(filter-out 0,$(QUICK))

.PHONY: help run test soak torture mutants bench bench-charts check shell modules stock debug env clean distclean

help:
	@printf '%s\n' \
	'make run               build, boot Debian'\''s kernel, load reflinkfs, show what it does' \
	'make test              all tests: KUnit on the debug kernel, the harness on both kernels' \
	'                         FS=tmpfs|xfs|btrfs  the harness on another filesystem (Debian'\''s kernel)' \
	'                         TESTS=FILTER        only tests whose name contains FILTER' \
	'make soak HOURS=n      goes on testing with new seeds: fsx, a fuzzer, stress-ng, races (default 1;' \
	'                         fractions are allowed; qemu/soak --help)' \
	'make torture HOURS=n   tries to break it: huge files, failures, calls at random, memory, races' \
	'                         (default 1; SEED=, PARTS="calls bombs"; qemu/torture --help)' \
	'make mutants           breaks the code on purpose, rule by rule, and says which tests notice (docs/mutants.md;' \
	'                         an hour; qemu/mutants --help)' \
	'make bench             all filesystems side by side, measured; a table and build/bench/ (15 minutes)' \
	'                         QUICK=1             in 4 minutes, only to see whether something is far off' \
	'make bench-charts      the same, and the charts in docs/charts/ made anew' \
	'make check             format, lints, checkpatch, layers, build, harness on Debian'\''s kernel' \
	'make modules KDIR=DIR  build the modules for your own kernel: a prepared tree with CONFIG_RUST=y' \
	'make shell             a shell in the guest, reflinkfs loaded (KERNEL=debug for the debug kernel)' \
	'make stock, make debug the modules for Debian'\''s kernel, for the debug kernel (in build/)' \
	'make env               everything that is needed, without building anything of ours' \
	'make clean             remove build/' \
	'make distclean         the cache too (kernels and toolchain: half an hour to make again)' \
	'' \
	'qemu/vm --help         run any command in a guest' \
	'qemu/uml --help        the same without emulation: a kernel that is a process, with one processor' \
	'qemu/env --help        what the environment consists of, where it is kept'

run:
	@qemu/run

test:
	@qemu/test --fs '$(FS)' $(if $(TESTS),--filter '$(TESTS)')

soak:
	@qemu/soak --hours '$(or $(HOURS),1)'

torture:
	@qemu/torture --hours '$(or $(HOURS),1)' $(if $(SEED),--seed '$(SEED)') $(PARTS)

mutants:
	@qemu/mutants

check:
	@qemu/check

bench:
	@qemu/bench $(if $(quick),--quick)

bench-charts:
	@qemu/bench --charts docs/charts

modules:
	@qemu/modules --kdir '$(KDIR)'

stock debug:
	@qemu/modules $@

shell:
	@qemu/modules $(or $(KERNEL),stock)
	@qemu/vm --kernel $(or $(KERNEL),stock) --timeout 0 --tty -- bash -l

env:
	@qemu/env

clean:
	rm -rf build

distclean: clean
	@qemu/env clean
