# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Loads all functions of qemu/, in the order of their dependencies.
# shellcheck disable=SC2034
TOP=$(dirname "$QEMU_DIR")
# An ordinary user's path lacks chroot.
PATH=$PATH:/usr/sbin:/sbin
for file in lib/{say,step} environment/{arch,cache,host,namespace,root,source,stock,debug,uml,guest,arm64} \
	machine/{accel,emulated,process,watchdog} lib/{harness,kunit,one-guest,soak,torture,totals} shell-tests/{run,fsx}; do
	# shellcheck source=/dev/null
	. "$QEMU_DIR/$file.sh"
done
unset file
