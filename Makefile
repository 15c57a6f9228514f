# SPDX-License-Identifier: GPL-2.0
# The commands of the project; `make help` lists them. How the modules are built is in Kbuild.

MAKEFLAGS += --no-print-directory
FS ?= reflinkfs
.DEFAULT_GOAL := help

# Makes QUICK=0 and QUICK= the same.
quick = $(filter-out 0,$(QUICK))

.PHONY: help run test soak torture mutants bench bench-charts check shell modules stock debug env deb install uninstall \
	clean distclean

help:
	@printf '%s\n' \
	'make run               build, boot Debian'\''s kernel, load reflinkfs, demonstrate it' \
	'make test              run all tests, on the stock, the debug and the UML kernel (qemu/test --help)' \
	'                         FS=tmpfs|xfs|btrfs  the harness on another filesystem (Debian'\''s kernel)' \
	'                         TESTS=FILTER        only tests whose name contains FILTER' \
	'                         KERNELS=all         on further kernels of Debian'\''s, too' \
	'make soak HOURS=n      test with new seeds: fsx, a fuzzer, stress-ng, races (default 1 hour;' \
	'                         fractions are allowed; qemu/soak --help)' \
	'make torture HOURS=n   try to break it: huge files, failures, random calls, memory, races' \
	'                         (default 1 hour; SEED=, PARTS="calls bombs"; qemu/torture --help)' \
	'make mutants           break the code on purpose, rule by rule, and list the tests that notice' \
	'                         (docs/mutants.md; an hour; qemu/mutants --help)' \
	'make bench             compare all filesystems: a table and build/bench/ (15 minutes)' \
	'                         QUICK=1             in 4 minutes, only precise enough to see large changes' \
	'make bench-charts      the same, and draw the charts in docs/charts/ again' \
	'make check             check format, lints, checkpatch, layers, build, harness on Debian'\''s kernel' \
	'make modules KDIR=DIR  build the modules for your own kernel: a prepared tree with CONFIG_RUST=y' \
	'                         KERNEL=running      for the Debian kernel that runs here; needs no tree' \
	'make install           install modules, programs, manual pages; make uninstall removes them' \
	'                         (DESTDIR=; packages/install --help)' \
	'make deb               build Debian packages for Debian'\''s kernel into build/deb (packages/deb --help)' \
	'make shell             open a shell in the guest, reflinkfs loaded (KERNEL=debug: the debug kernel)' \
	'make stock, make debug build the modules for Debian'\''s kernel, for the debug kernel (in build/)' \
	'make env               set up toolchain, kernels and guest, without building the modules' \
	'make clean             remove build/' \
	'make distclean         remove the cache, too (kernels and toolchain: half an hour to make again)' \
	'' \
	'ARCH=arm64             build for Debian'\''s arm64 kernel, and emulate it: run, test, shell, stock, env' \
	'                         (in build/arm64/)' \
	'KERNEL_VERSION=, SUITE=, MIRROR= choose Debian'\''s kernel, suite and archive (qemu/env --help)' \
	'qemu/vm --help         run any command in a guest' \
	'qemu/uml --help        the same without emulation, in User-Mode Linux, on one processor' \
	'qemu/env --help        the parts of the environment, and where they are kept'

run:
	@qemu/run

test:
	@qemu/test --fs '$(FS)' $(if $(TESTS),--filter '$(TESTS)') $(if $(KERNELS),--kernels '$(KERNELS)')

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
ifeq ($(KERNEL),running)
	@qemu/modules --running
else
	@qemu/modules --kdir '$(KDIR)'
endif

deb:
	@packages/deb

install:
	@$(MAKE) -C samples O='$(CURDIR)/build/samples' all
	@packages/install

uninstall:
	@packages/install --uninstall

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
